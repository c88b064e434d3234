// losses[b, 0] = 1/2 |r|^2 and ds[b] = scale r / B, with the residual r = scale s[b] + shift (y[b] - x[b])
//
// scale 1 and shift 0 give 1/2 |s|^2; scale sigma and shift 1 / sigma the denoising loss at y = x + sigma eps. A workgroup
// owns one sample: 64 threads stride over the dimensions, then add their sums pairwise in a fixed order.

struct Params {
    batch: u32,
    dimensions: u32,
    scale: f32,
    shift: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> score: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(2) var<storage, read> clean: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(3) var<storage, read> noisy: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(4) var<storage, read_write> losses: array<vec4<f32>>; // (batch, 4)
@group(0) @binding(5) var<storage, read_write> dscore: array<vec4<f32>>; // (batch, dimensions)

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn residual_loss(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.dimensions + 3u) / 4u;
    let row = group.x * n_quads;
    var sum = 0.0;
    for (var k = row + local.x; k < row + n_quads; k += 64u) {
        let residual = params.scale * score[k] + params.shift * (noisy[k] - clean[k]);
        dscore[k] = params.scale / f32(params.batch) * residual;
        sum += dot(residual, residual);
    }
    partial[local.x] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local.x < width {
            partial[local.x] += partial[local.x + width];
        }
    }
    if local.x == 0u {
        losses[group.x] = vec4(0.5 * partial[0], 0.0, 0.0, 0.0);
    }
}
