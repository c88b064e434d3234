// losses[b, 0] = weight sum over p of [ v . s' + project/2 (v . s)^2 ]   (+ losses[b, 0] when accumulate is 1)
// ds'[p B + b] = weight v / B;   where project is 1: ds[b] = weight sum over p of (v . s) v / B   (+ ds[b] ...)
//
// v = v[p B + b] is a direction, s' = s'[p B + b] the score's slope along it, s = s[b]. Where project is 0, ds is left as it
// is. A workgroup owns one sample: 64 threads stride over the dimensions, then add their sums pairwise in a fixed order.

struct Params {
    batch: u32,
    dimensions: u32,
    n_directions: u32,
    weight: f32,
    project: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>; // (n_directions * batch, dimensions)
@group(0) @binding(2) var<storage, read> score: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(3) var<storage, read> slope: array<vec4<f32>>; // (n_directions * batch, dimensions)
@group(0) @binding(4) var<storage, read_write> losses: array<vec4<f32>>; // (batch, 4)
@group(0) @binding(5) var<storage, read_write> dscore: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(6) var<storage, read_write> dslope: array<vec4<f32>>; // (n_directions * batch, dimensions)

// v . s' and v . s
var<workgroup> partial: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn sliced_loss(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.dimensions + 3u) / 4u;
    let seed = params.weight / f32(params.batch);
    let at = group.x * n_quads;
    var loss = 0.0;
    for (var p = 0u; p < params.n_directions; p++) {
        let row = p * params.batch * n_quads + at;
        var sums = vec2(0.0);
        for (var k = local.x; k < n_quads; k += 64u) {
            let direction = v[row + k];
            sums += vec2(dot(direction, slope[row + k]), dot(direction, score[at + k]));
            dslope[row + k] = seed * direction;
        }
        partial[local.x] = sums;
        for (var width = 32u; width > 0u; width /= 2u) {
            workgroupBarrier();
            if local.x < width {
                partial[local.x] += partial[local.x + width];
            }
        }
        workgroupBarrier();
        let slope_along = partial[0].x;
        let score_along = partial[0].y;
        workgroupBarrier();
        loss += slope_along;
        if params.project == 1u {
            loss += 0.5 * score_along * score_along;
            for (var k = local.x; k < n_quads; k += 64u) {
                var sum = vec4(0.0);
                if p > 0u || params.accumulate == 1u {
                    sum = dscore[at + k];
                }
                dscore[at + k] = sum + seed * score_along * v[row + k];
            }
        }
    }
    if local.x == 0u {
        var sum = params.weight * loss;
        if params.accumulate == 1u {
            sum += losses[group.x].x;
        }
        losses[group.x] = vec4(sum, 0.0, 0.0, 0.0);
    }
}
