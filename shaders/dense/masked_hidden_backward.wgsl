// dx[b, i] = sum over o with i < visible[o] of dy[b, o] weight[o, i]   (+ dx[b, i] when accumulate is 1) and dz = dx phi'(z)

//#include dense_backward
//#include hidden_input
@compute @workgroup_size(8, GROUP_ROWS)
fn masked_hidden_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    backward_tile(group, local);
}
