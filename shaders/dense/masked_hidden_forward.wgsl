// z[b, o] = bias[o] + sum over i < visible[o] of weight[o, i] x[b, i] and h = phi(z)   (+ x with RESIDUAL)

//#include dense_forward
//#include hidden_output
@compute @workgroup_size(8, GROUP_ROWS)
fn masked_hidden_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    forward_tile(group, local);
}
