// The context network one dimension at a time: a hidden unit of degree m is final once x_1 .. x_m are known, so each
// unit is computed once in a whole pass over the dimensions.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION and RESIDUAL, and
// includes activation and state. A sample's state, in words: [x | hidden layers | context | y]. Layer table at params.context_table,
// 8 words a layer: n_in, n_out, weight, bias (offsets in context_net, vec4s), input, output (offsets in the state, words),
// input starts, output starts (offsets in tables: the first unit of degree m or more, m = 0 .. D + 1).

fn known_sum(weight: u32, input: u32, visible: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; 4u * k < visible; k++) {
        let i = 4u * k;
        let x = state[input / 4u + k];
        sum += dot(context_net[weight + k], select(vec4(0.0), x, vec4(i, i + 1u, i + 2u, i + 3u) < vec4(visible)));
    }
    return sum;
}

// Hidden units of degree d, then the context of dimension d (counted from 0), for samples first .. first + n_samples.
// Every thread of the workgroup must call it; ends with a barrier.
fn made_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    for (var index = 0u; index < params.n_context_layers; index++) {
        let t = params.context_table + 8u * index;
        let n_in = tables[t];
        let n_out = tables[t + 1u];
        let is_output = index + 1u == params.n_context_layers;
        let visible = tables[tables[t + 6u] + d + 1u];
        var start = d * params.context_width;
        var end = start + params.context_width;
        if !is_output {
            start = tables[tables[t + 7u] + d];
            end = tables[tables[t + 7u] + d + 1u];
        }
        let n_units = end - start;
        for (var item = thread; item < n_samples * n_units; item += THREADS) {
            let unit = start + item % n_units;
            let base = (first + item / n_units) * params.state_words;
            let input = base + tables[t + 4u];
            let weight = tables[t + 2u] + unit * ((n_in + 3u) / 4u);
            let z = context_net[tables[t + 3u] + unit / 4u][unit % 4u] + known_sum(weight, input, visible);
            let output = base + tables[t + 5u];
            if is_output {
                set_state(output + item % n_units, z);
            } else {
                var h = phi(CONTEXT_ACTIVATION, z);
                if RESIDUAL == 1u && index > 0u && n_in == n_out {
                    h += state_word(input + unit);
                }
                set_state(output + unit, h);
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
