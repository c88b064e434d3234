// y[b, o] = bias[o] + sum over i < visible[o] of weight[o, i] x[b, i]

//#include dense_forward_tiled
//#include dense_output
@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_dense_forward_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    forward_tile(group, local);
}
