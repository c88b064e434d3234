// What all forms of a masked dense layer read on the way back.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out, n_in)
@group(0) @binding(3) var<storage, read> visible: array<vec4<u32>>; // (n_out)
@group(0) @binding(4) var<storage, read> first_output: array<u32>; // (n_in)
