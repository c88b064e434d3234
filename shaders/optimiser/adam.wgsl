// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), global-norm clipping and EMA:
//   g = clip * gradient,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//   w = w - rate (m / c1 / (sqrt(v / c2) + epsilon) + decay w),  ema = e ema + (1 - e) w,  c_k = 1 - beta_k^step
//
// Words come in blocks of 64; only those in the list are touched: blocks of nothing but masked-out weights are zero and stay so.
// An entry of the list is twice the number of a block, plus 1 where its weights decay. A thread owns four words. The squared gradient norm comes first in health; where it is not finite, nothing is touched,
// so that a bad step leaves good weights. Words of the average that are not finite, as they become where a weight or a moment
// is not, are counted: health[1] += their number. The bits are tested: comparisons with NaN are not reliable in shaders.

struct Params {
    n_values: u32,
    n_blocks: u32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    correction1: f32,
    correction2: f32,
    epsilon: f32,
    decay: f32,
    clip_norm: f32,
    ema_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4<f32>>; // (n_values)
@group(0) @binding(2) var<storage, read> blocks: array<u32>; // (n_blocks)
@group(0) @binding(3) var<storage, read_write> value: array<vec4<f32>>; // (n_values)
@group(0) @binding(4) var<storage, read_write> first_moment: array<vec4<f32>>; // (n_values)
@group(0) @binding(5) var<storage, read_write> second_moment: array<vec4<f32>>; // (n_values)
@group(0) @binding(6) var<storage, read_write> average: array<vec4<f32>>; // (n_values)
@group(0) @binding(7) var<storage, read_write> health: array<atomic<u32>>; // (4)

@compute @workgroup_size(64)
fn adam(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let place = (group.y * 1024u + group.x) * 64u + local.x;
    let entry = blocks[min(place / 16u, params.n_blocks - 1u)];
    let k = 16u * (entry / 2u) + place % 16u;
    if place >= 16u * params.n_blocks || k >= (params.n_values + 3u) / 4u {
        return;
    }
    let squared_norm = bitcast<f32>(atomicLoad(&health[0]));
    if (bitcast<u32>(squared_norm) & 0x7fffffffu) >= 0x7f800000u {
        return;
    }
    let norm = sqrt(squared_norm);
    let clip = select(1.0, params.clip_norm / max(norm, 1e-30), params.clip_norm > 0.0 && norm > params.clip_norm);
    let g = clip * gradient[k];
    let m = params.beta1 * first_moment[k] + (1.0 - params.beta1) * g;
    let v = params.beta2 * second_moment[k] + (1.0 - params.beta2) * g * g;
    let step = m / params.correction1 / (sqrt(v / params.correction2) + params.epsilon);
    let decay = select(0.0, params.decay, entry % 2u == 1u);
    let w = value[k] - params.rate * (step + decay * value[k]);
    first_moment[k] = m;
    second_moment[k] = v;
    value[k] = w;
    let mean = params.ema_decay * average[k] + (1.0 - params.ema_decay) * w;
    average[k] = mean;
    let bad = (bitcast<vec4<u32>>(mean) & vec4(0x7fffffffu)) >= vec4(0x7f800000u);
    if any(bad) {
        atomicAdd(&health[1], dot(vec4<u32>(bad), vec4(1u)));
    }
}
