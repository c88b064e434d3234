// A context network of masked convolutions one dimension at a time: as soon as the dimensions before d are known, every
// layer is computed at the position of d, in the colour group of d, once; values at earlier positions are read from the
// sample's state, where they were kept.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION and GATE, and
// includes activation and broadcast. Tables at params.context_table: image width, colour channels, then 26 words a layer:
//   0 kind (0 convolution, 1 activation, 2 gate)   1 level of the output: sides are those of the image over 2^level
//   2 grouped: each colour group in its turn, else all with the first   3 n_in   4 n_out
//   5 input, 6 words from one of its columns to the next, 7 from row to row   8 output, 9 and 10 the same
//     (words in the state; 0: kept for the row or the position at work only)
//   11 ahead: columns to the right of the position at work   12 in_height   13 in_width   14 out_width   15 half_width
//   convolution: 16 weight   17 bias (vec4s)   18 n_taps   19 tap_width   20 above   21 left   22 stride   23 up   24 mask
//   25 accumulate   gate: 16 skip, 17 and 18 as 9 and 10
// What sees the rows above only may be read to the right of the position at work, so it runs ahead of it.

const LAYER_WORDS = 26u;

// Where the value at row i and column j is, for a place, a step of columns and a step of rows in the table.
fn place_of(at: u32, i: u32, j: u32) -> u32 {
    return tables[at] + j * tables[at + 1u] + i * tables[at + 2u];
}

// The product of a weight row with the first `visible` channels of a kept value, which the LANES neighbours share;
// `weight` in vec4s, `input` in words.
fn shared_sum(weight: u32, input: u32, visible: u32, lane: u32) -> f32 {
    let n_quads = (visible + 3u) / 4u;
    var sum = 0.0;
    for (var first = 0u; first < n_quads; first += LANES) {
        let own = 4u * min(first + lane % LANES, n_quads - 1u);
        let at = input + own;
        let kept = vec4(state[at], state[at + 1u], state[at + 2u], state[at + 3u]);
        let x = select(vec4(0.0), kept, vec4(own, own + 1u, own + 2u, own + 3u) < vec4(visible));
        for (var k = first; k < min(first + LANES, n_quads); k++) {
            sum += dot(context_net[weight + k], broadcast(x, k - first));
        }
    }
    return sum;
}

// bias + taps of output o at position (i, j) of the output's grid; LANES neighbours have the same position and sample.
fn image_sum(t: u32, o: u32, base: u32, i: u32, j: u32, group: u32, groups: u32, lane: u32) -> f32 {
    let n_in = tables[t + 3u];
    let n_taps = tables[t + 18u];
    let tap_width = i32(tables[t + 19u]);
    let stride = tables[t + 22u];
    let up = tables[t + 23u];
    let mask = tables[t + 24u];
    let n_quads = (n_in + 3u) / 4u;
    let extent = vec2(i32(tables[t + 12u] << up), i32(tables[t + 13u] << up));
    let corner = vec2(i32(i * stride) - i32(tables[t + 20u]), i32(j * stride) - i32(tables[t + 21u]));
    var sum = context_net[tables[t + 17u] + o / 4u][o % 4u];
    var weight = tables[t + 16u] + o * n_taps * n_quads;
    var at = corner;
    for (var tap = 0u; tap < n_taps; tap++) {
        if all(at >= vec2(0)) && all(at < extent) {
            var visible = n_in;
            if mask > 0u && tap + 1u == n_taps {
                visible = ((group + mask - 1u) * n_in + groups - 1u) / groups;
            }
            let input = base + place_of(t + 5u, u32(at.x) >> up, u32(at.y) >> up);
            sum += shared_sum(weight, input, visible, lane);
        }
        weight += n_quads;
        at.y += 1;
        if at.y == corner.y + tap_width {
            at = vec2(at.x + 1, corner.y);
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
        let half_width = tables[t + 15u];
        var start = 0u;
        var end = half_width;
        if grouped {
            start = (group * half_width + groups - 1u) / groups;
            end = ((group + 1u) * half_width + groups - 1u) / groups;
        }
        let n_units = (end - start) * (tables[t + 4u] / half_width);
        let i = row >> level;
        let j = column >> level;
        // A coarser grid has a position for the first of its pixels only.
        let is_due = (i << level) == row && (j << level) == column && (grouped || group == 0u);
        let first_column = select(j + tables[t + 11u], 0u, j == 0u);
        let end_column = min(j + tables[t + 11u] + 1u, tables[t + 14u]);
        let n_columns = select(0u, end_column - first_column, is_due && first_column < end_column);
        // Eight threads side by side take eight units of one position of one sample.
        let n_blocks = (n_units + 7u) / 8u;
        for (var item = thread / 8u; item < n_samples * n_columns * n_blocks; item += THREADS / 8u) {
            let block_unit = item % n_blocks * 8u + thread % 8u;
            let unit = min(block_unit, n_units - 1u);
            let o = start + unit % (end - start) + unit / (end - start) * half_width;
            let at = first_column + item / n_blocks % n_columns;
            let base = (first + item / n_blocks / n_columns) * params.state_words;
            let here = base + place_of(t + 5u, i, at);
            var output = base + place_of(t + 8u, i, at) + o;
            var value = 0.0;
            if tables[t] == 0u {
                value = image_sum(t, o, base, i, at, group, groups, thread % 8u);
                if tables[t + 25u] == 1u {
                    value += state[output];
                }
                if index + 1u == params.n_context_layers {
                    output = base + params.context_at + unit;
                }
            } else if tables[t] == 1u {
                value = phi(CONTEXT_ACTIVATION, state[here + o]);
            } else {
                let skip = base + place_of(t + 16u, i, at);
                value = state[skip + o] + phi(GATE, state[here + o]) * sigmoid(state[here + half_width + o]);
            }
            if block_unit < n_units {
                state[output] = value;
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
