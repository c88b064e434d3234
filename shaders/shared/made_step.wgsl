// The context network one dimension at a time, a unit a thread. The includer includes broadcast and quotient, too.

//#include made_layers
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

// Hidden units of degree d, then the context of dimension d (counted from 0), for samples first .. first + n_samples.
// LANES threads side by side take LANES units of LANES samples. Every thread of the workgroup must call it; ends with a barrier.
fn made_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    for (var index = 0u; index < params.n_context_layers; index++) {
        let layer = made_layer(index, d);
        let n_blocks = (layer.n_units + LANES - 1u) / LANES;
        let n_items = (n_samples + LANES - 1u) / LANES * n_blocks;
        for (var item = thread / LANES; item < n_items; item += THREADS / LANES) {
            let block = quotient(item, n_blocks);
            let sample = block * LANES;
            let place = (item - block * n_blocks) * LANES + thread % LANES;
            let unit = layer.start + min(place, layer.n_units - 1u);
            let own_base = (first + min(sample + thread % LANES, n_samples - 1u)) * params.state_words;
            let weight = layer.weight + unit * ((layer.n_in + 3u) / 4u);
            let sums = known_sums(weight, own_base + layer.input, layer.visible);
            //#for r in 0..LANES
            if place < layer.n_units && sample + {r}u < n_samples {
                keep_made_unit(layer, index, (first + sample + {r}u) * params.state_words, place, sums[{r}]);
            }
            //#end
        }
        storageBarrier();
        workgroupBarrier();
    }
}
