// dx[b, i] = sum over o with i < visible[o] of dy[b, o] weight[o, i]   (+ dx[b, i] when accumulate is 1)

//#include dense_backward
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>; // (batch, n_in)

//#include dense_input
// There is no activation.
fn finish(row: u32, column: u32) {}

@compute @workgroup_size(8, GROUP_ROWS)
fn masked_dense_backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    backward_tile(group, local);
}
