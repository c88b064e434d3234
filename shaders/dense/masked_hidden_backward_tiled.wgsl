// dx[b, i] = sum over o with i < visible[o] of dy[b, o] weight[o, i]   (+ dx[b, i] when accumulate is 1) and dz = dx phi'(z)

//#include dense_backward_tiled
//#include hidden_input
@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_hidden_backward_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    backward_tile(group, local);
}
