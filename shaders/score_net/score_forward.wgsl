// s and ds/dx~ of the shared score network, for every row (sample and dimension, x~, sigma, eps)
//
// A workgroup of 8 x 4 threads owns tiles of 32 rows, a thread each, a pair of value and tangent (score_net), and strides
// over the rows; its activations live in its own part of scratch.

const TANGENT = 1u;
const KEEP = 0u;

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    n_net: u32,
    n_tables: u32,
    n_groups: u32,
    scratch_words: u32,
    mean: f32,
    sd: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // (n_rows, 4)
@group(0) @binding(3) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(4) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)
@group(0) @binding(6) var<storage, read_write> result: array<vec4<f32>>; // (n_rows, 4)

//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include score_rows
//#include score_inputs
@compute @workgroup_size(8, GROUP_ROWS)
fn score_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    let base = group.x * (params.scratch_words / 4u);
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += params.n_groups * ROWS_PER_TILE) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        write_inputs(base, first, n_rows, 2u * thread);
        let f = score_output(base, 0u, true, local.x, 2u * thread);
        if thread < n_rows {
            result[first + thread] = vec4(score_and_slope(rows[first + thread], f.x, f.y), 0.0, 0.0);
        }
    }
}
