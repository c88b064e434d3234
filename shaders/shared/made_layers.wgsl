// The context network one dimension at a time: a hidden unit of degree m is final once x_1 .. x_m are known, so each
// unit is computed once in a whole pass over the dimensions.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION and RESIDUAL, and
// includes activation and state. A sample's state, in words: [x | hidden layers | context | y]. Layer
// table at params.context_table, 8 words a layer: n_in, n_out, weight, bias (offsets in context_net, vec4s), input, output
// (offsets in the state, words), input starts, output starts (offsets in tables: the first unit of degree m or more,
// m = 0 .. D + 1).

struct MadeLayer {
    n_in: u32,
    n_out: u32,
    weight: u32,
    bias: u32,
    input: u32,
    output: u32,
    // What is computed for one dimension: units start .. start + n_units, from the inputs before `visible`.
    start: u32,
    n_units: u32,
    visible: u32,
    is_output: bool,
}

// A layer with the units of degree d, or with the context of dimension d (counted from 0).
fn made_layer(index: u32, d: u32) -> MadeLayer {
    let t = params.context_table + 8u * index;
    let is_output = index + 1u == params.n_context_layers;
    var start = d * params.context_width;
    var end = start + params.context_width;
    if !is_output {
        start = tables[tables[t + 7u] + d];
        end = tables[tables[t + 7u] + d + 1u];
    }
    return MadeLayer(
        tables[t], tables[t + 1u], tables[t + 2u], tables[t + 3u], tables[t + 4u], tables[t + 5u],
        start, end - start, tables[tables[t + 6u] + d + 1u], is_output,
    );
}

// What is kept of the sum of a unit, unit number `place` of those that are computed: z in the last layer, before that its
// activation, plus an input on residual layers.
fn keep_made_unit(layer: MadeLayer, index: u32, base: u32, place: u32, sum: f32) {
    let unit = layer.start + place;
    let z = context_net[layer.bias + unit / 4u][unit % 4u] + sum;
    if layer.is_output {
        set_state(base + layer.output + place, z);
        return;
    }
    var h = phi(CONTEXT_ACTIVATION, z);
    if RESIDUAL == 1u && index > 0u && layer.n_in == layer.n_out {
        h += state_word(base + layer.input + unit);
    }
    set_state(base + layer.output + unit, h);
}
