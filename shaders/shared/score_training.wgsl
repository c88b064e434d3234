// What all forms of the score network's training bind.

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    row_stride: u32,
    n_net: u32,
    n_tables: u32,
    n_groups: u32,
    scratch_words: u32,
    gradient_at: u32,
    mean: f32,
    sd: f32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // (n_rows, 4)
@group(0) @binding(3) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(4) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)
@group(0) @binding(6) var<storage, read_write> dcontext: array<f32>; // (batch, dimensions * context_width)
