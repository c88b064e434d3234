// The context network one dimension at a time: a hidden unit of degree m is final once x_1 .. x_m are known, so each
// unit is computed once in a whole pass over the dimensions.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION and RESIDUAL, and
// includes activation, broadcast, quotient and state. A sample's state, in words: [x | hidden layers | context | y]. Layer
// table at params.context_table, 8 words a layer: n_in, n_out, weight, bias (offsets in context_net, vec4s), input, output
// (offsets in the state, words), input starts, output starts (offsets in tables: the first unit of degree m or more,
// m = 0 .. D + 1).

// W x over the first `visible` inputs, for the unit whose weights start at `weight` and LANES samples. LANES neighbours have
// the same samples and other units; each loads the inputs of the one sample at `input` for all of them.
fn known_sums(weight: u32, input: u32, visible: u32) -> array<f32, LANES> {
    //#for r in 0..LANES
    var sum{r} = 0.0;
    //#end
    for (var k = 0u; 4u * k < visible; k++) {
        let i = 4u * k;
        let w = context_net[weight + k];
        let own = select(vec4(0.0), state[input / 4u + k], vec4(i, i + 1u, i + 2u, i + 3u) < vec4(visible));
        //#for r in 0..LANES
        sum{r} += dot(w, broadcast(own, {r}u));
        //#end
    }
    var sums: array<f32, LANES>;
    //#for r in 0..LANES
    sums[{r}] = sum{r};
    //#end
    return sums;
}

struct MadeLayer {
    n_in: u32,
    n_out: u32,
    weight: u32,
    bias: u32,
    input: u32,
    output: u32,
}

// What an output is kept as: z in the last layer, before that its activation, plus an input on residual layers.
fn made_output(layer: MadeLayer, index: u32, base: u32, unit: u32, z: f32) -> f32 {
    if index + 1u == params.n_context_layers {
        return z;
    }
    var h = phi(CONTEXT_ACTIVATION, z);
    if RESIDUAL == 1u && index > 0u && layer.n_in == layer.n_out {
        h += state_word(base + layer.input + unit);
    }
    return h;
}

// Hidden units of degree d, then the context of dimension d (counted from 0), for samples first .. first + n_samples.
// LANES threads side by side take LANES units of LANES samples. Every thread of the workgroup must call it; ends with a barrier.
fn made_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    for (var index = 0u; index < params.n_context_layers; index++) {
        let t = params.context_table + 8u * index;
        let layer = MadeLayer(tables[t], tables[t + 1u], tables[t + 2u], tables[t + 3u], tables[t + 4u], tables[t + 5u]);
        let visible = tables[tables[t + 6u] + d + 1u];
        let is_output = index + 1u == params.n_context_layers;
        var start = d * params.context_width;
        var end = start + params.context_width;
        if !is_output {
            start = tables[tables[t + 7u] + d];
            end = tables[tables[t + 7u] + d + 1u];
        }
        let n_units = end - start;
        let n_blocks = (n_units + LANES - 1u) / LANES;
        let n_items = (n_samples + LANES - 1u) / LANES * n_blocks;
        for (var item = thread / LANES; item < n_items; item += THREADS / LANES) {
            let block = quotient(item, n_blocks);
            let sample = block * LANES;
            let place = (item - block * n_blocks) * LANES + thread % LANES;
            let unit = start + min(place, n_units - 1u);
            let own_base = (first + min(sample + thread % LANES, n_samples - 1u)) * params.state_words;
            let weight = layer.weight + unit * ((layer.n_in + 3u) / 4u);
            let sums = known_sums(weight, own_base + layer.input, visible);
            let bias = context_net[layer.bias + unit / 4u][unit % 4u];
            //#for r in 0..LANES
            if place < n_units && sample + {r}u < n_samples {
                let base{r} = (first + sample + {r}u) * params.state_words;
                let value{r} = made_output(layer, index, base{r}, unit, bias + sums[{r}]);
                set_state(base{r} + layer.output + select(unit, place, is_output), value{r});
            }
            //#end
        }
        storageBarrier();
        workgroupBarrier();
    }
}
