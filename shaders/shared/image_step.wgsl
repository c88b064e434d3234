// A context network of masked convolutions one dimension at a time: as soon as the dimensions before d are known, every
// layer is computed at the position of d, in the colour group of d, once; values at earlier positions are read from the
// sample's state, where they were kept.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION and GATE, and
// includes activation and known_sum. Tables at params.context_table: image width, colour channels, then 24 words a layer:
//   0 kind (0 convolution, 1 activation, 2 gate)   1 level of the output: sides are those of the image over 2^level
//   2 grouped: each colour group in its turn, else all with the first   3 n_in   4 n_out
//   5 input, 6 its pitch   7 output, 8 its pitch (words in the state; pitch 0: kept for the position at work only)
//   9 in_height   10 in_width   11 out_width   12 half_width   convolution: 13 weight   14 bias (vec4s)   15 n_taps
//   16 tap_width   17 above   18 left   19 stride   20 up   21 mask   22 accumulate   gate: 13 skip   14 its pitch

const LAYER_WORDS = 24u;

// bias + taps of output o at position (i, j) of the output's grid.
fn image_sum(t: u32, o: u32, base: u32, i: u32, j: u32, group: u32, groups: u32) -> f32 {
    let n_in = tables[t + 3u];
    let n_taps = tables[t + 15u];
    let n_quads = (n_in + 3u) / 4u;
    let mask = tables[t + 21u];
    let up = tables[t + 20u];
    let extent = vec2(i32(tables[t + 9u] << up), i32(tables[t + 10u] << up));
    let corner = vec2(i32(i * tables[t + 19u]) - i32(tables[t + 17u]), i32(j * tables[t + 19u]) - i32(tables[t + 18u]));
    var sum = context_net[tables[t + 14u] + o / 4u][o % 4u];
    for (var tap = 0u; tap < n_taps; tap++) {
        let at = corner + vec2(i32(tap / tables[t + 16u]), i32(tap % tables[t + 16u]));
        if all(at >= vec2(0)) && all(at < extent) {
            var visible = n_in;
            if mask > 0u && tap + 1u == n_taps {
                visible = ((group + mask - 1u) * n_in + groups - 1u) / groups;
            }
            let place = u32(at.x >> up) * tables[t + 10u] + u32(at.y >> up);
            let input = base + tables[t + 5u] + place * tables[t + 6u];
            sum += known_sum(tables[t + 13u] + (o * n_taps + tap) * n_quads, input, visible);
        }
    }
    return sum;
}

// Every layer at dimension d, for samples first .. first + n_samples; the last one's values become the context.
// Every thread of the workgroup must call it; ends with a barrier.
fn image_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    let width = tables[params.context_table];
    let groups = tables[params.context_table + 1u];
    let group = d % groups;
    let row = d / groups / width;
    let column = d / groups % width;
    for (var index = 0u; index < params.n_context_layers; index++) {
        let t = params.context_table + 2u + LAYER_WORDS * index;
        let level = tables[t + 1u];
        let grouped = tables[t + 2u] == 1u;
        let half_width = tables[t + 12u];
        var start = 0u;
        var end = half_width;
        if grouped {
            start = (group * half_width + groups - 1u) / groups;
            end = ((group + 1u) * half_width + groups - 1u) / groups;
        }
        let i = row >> level;
        let j = column >> level;
        // A coarser grid has a position for the first of its pixels only.
        let is_due = (i << level) == row && (j << level) == column && (grouped || group == 0u);
        let n_units = select(0u, (end - start) * (tables[t + 4u] / half_width), is_due);
        let place = i * tables[t + 11u] + j;
        for (var item = thread; item < n_samples * n_units; item += THREADS) {
            let unit = item % n_units;
            let o = start + unit % (end - start) + unit / (end - start) * half_width;
            let base = (first + item / n_units) * params.state_words;
            let here = base + tables[t + 5u] + place * tables[t + 6u];
            var output = base + tables[t + 7u] + place * tables[t + 8u] + o;
            var value = 0.0;
            if tables[t] == 0u {
                value = image_sum(t, o, base, i, j, group, groups);
                if tables[t + 22u] == 1u {
                    value += state[output];
                }
                if index + 1u == params.n_context_layers {
                    output = base + params.context_at + unit;
                }
            } else if tables[t] == 1u {
                value = phi(CONTEXT_ACTIVATION, state[here + o]);
            } else {
                let skip = base + tables[t + 13u] + place * tables[t + 14u];
                value = state[skip + o] + phi(GATE, state[here + o]) * sigmoid(state[here + half_width + o]);
            }
            state[output] = value;
        }
        storageBarrier();
        workgroupBarrier();
    }
}
