// The context network one dimension at a time on hardware adapters, where there is one sample in a workgroup: many threads
// share the sum of a unit. How many of them does not depend on anything but the unit, so that neither does the rounding.

//#include made_layers
var<workgroup> parts_of_sums: array<f32, THREADS>;

// What every n_parts-th vec4 from number `part` on of the first `visible` inputs adds to a unit. Four at a time, which do not
// wait for each other.
fn part_of_sum(weight: u32, input: u32, visible: u32, part: u32, n_parts: u32) -> f32 {
    //#for j in 0..4
    var sum{j} = vec4(0.0);
    //#end
    let n_quads = (visible + 3u) / 4u;
    for (var k = part; k < n_quads; k += 4u * n_parts) {
        //#for j in 0..4
        let k{j} = k + {j}u * n_parts;
        let i{j} = vec4(4u * k{j}, 4u * k{j} + 1u, 4u * k{j} + 2u, 4u * k{j} + 3u);
        let w{j} = context_net[weight + min(k{j}, n_quads - 1u)];
        let x{j} = state[input / 4u + min(k{j}, n_quads - 1u)];
        sum{j} += w{j} * select(vec4(0.0), x{j}, i{j} < vec4(visible));
        //#end
    }
    return dot(sum0 + sum1 + sum2 + sum3, vec4(1.0));
}

// Hidden units of degree d, then the context of dimension d (counted from 0), for samples first .. first + n_samples.
// Every thread of the workgroup must call it; ends with a barrier.
fn made_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    for (var index = 0u; index < params.n_context_layers; index++) {
        let layer = made_layer(index, d);
        // All threads for one unit, half of them each for two, and so on; at least eight.
        var n_parts = THREADS;
        while n_parts > 8u && n_parts * layer.n_units > THREADS {
            n_parts /= 2u;
        }
        let part = thread % n_parts;
        let n_items = n_samples * layer.n_units;
        for (var next = 0u; next < n_items; next += THREADS / n_parts) {
            let item = next + thread / n_parts;
            let sample = min(item, n_items - 1u) / layer.n_units;
            let place = min(item, n_items - 1u) - sample * layer.n_units;
            let base = (first + sample) * params.state_words;
            let weight = layer.weight + (layer.start + place) * ((layer.n_in + 3u) / 4u);
            parts_of_sums[thread] = part_of_sum(weight, base + layer.input, layer.visible, part, n_parts);
            workgroupBarrier();
            for (var half = n_parts / 2u; half > 0u; half /= 2u) {
                if part < half {
                    parts_of_sums[thread] += parts_of_sums[thread + half];
                }
                workgroupBarrier();
            }
            if part == 0u && item < n_items {
                keep_made_unit(layer, index, base, place, parts_of_sums[thread]);
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
