// sums[k] = bias[k] + sum over p < visible[k] of seen[dimension_at[p], k]: which dimensions a unit sees, added to its bias
// (the connectivity weights of Germain et al., "MADE", 2015, section 4)
//
// A thread owns one unit and adds in the order of positions; threads of the padding store zero. A dimension beyond the last
// counts as the last.

struct Params {
    dimensions: u32,
    units: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>; // (units)
@group(0) @binding(2) var<storage, read> seen: array<f32>; // (dimensions, units)
@group(0) @binding(3) var<storage, read> dimension_at: array<u32>; // (dimensions)
@group(0) @binding(4) var<storage, read> visible: array<u32>; // (units)
@group(0) @binding(5) var<storage, read_write> sums: array<f32>; // (units)

@compute @workgroup_size(64)
fn seen_bias(@builtin(global_invocation_id) id: vec3<u32>) {
    let pitch = (params.units + 3u) / 4u * 4u;
    if id.x >= pitch {
        return;
    }
    if id.x >= params.units {
        sums[id.x] = 0.0;
        return;
    }
    var sum = bias[id.x];
    for (var p = 0u; p < min(visible[id.x], params.dimensions); p++) {
        sum += seen[min(dimension_at[p], params.dimensions - 1u) * pitch + id.x];
    }
    sums[id.x] = sum;
}
