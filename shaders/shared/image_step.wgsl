// A context network of masked convolutions one dimension at a time: as soon as the dimensions before d are known, every
// layer is computed at the position of d, in the colour group of d, once; values at earlier positions are read from the
// sample's state, where they were kept.
//
// The includer declares params, context_net (weights), tables, state, and the constants CONTEXT_ACTIVATION, GATE, SAMPLES
// and UNITS (samples and outputs that a thread computes at a time: a weight is loaded once for all samples, a value once for
// all outputs), and includes activation, broadcast and state.
// Tables at params.context_table: image width, colour channels, the pixels' place in the state, then 26 words a layer:
//   0 kind (0 convolution, 1 activation, 2 gate)   1 level of the output: sides are those of the image over 2^level
//   2 grouped: each colour group in its turn, else all with the first   3 n_in   4 n_out
//   5 input, 6 words from one of its columns to the next, 7 from row to row   8 output, 9 and 10 the same
//     (words in the state, multiples of 4; 0: kept for the row or the position at work only)
//   11 ahead: columns to the right of the position at work   12 in_height   13 in_width   14 out_width   15 half_width
//   convolution: 16 weight   17 bias (vec4s)   18 n_taps   19 tap_width   20 above   21 left   22 stride   23 up   24 mask
//   25 accumulate   gate: 16 skip, 17 and 18 as 9 and 10
// What sees the rows above only may be read to the right of the position at work, so it runs ahead of it.

const LAYER_WORDS = 26u;

// Where a value is kept in the state.
struct Place {
    at: u32,
    column: u32,
    row: u32,
}

fn place(t: u32) -> Place {
    return Place(tables[t], tables[t + 1u], tables[t + 2u]);
}

fn word_of(place: Place, i: u32, j: u32) -> u32 {
    return place.at + j * place.column + i * place.row;
}

// What a layer computes for one dimension.
struct Due {
    // Outputs start .. start + width of the first half of the channels, and as many of the second where there are two.
    start: u32,
    width: u32,
    half_width: u32,
    n_units: u32,
    // Position, and a run of columns that ends a little ahead of it.
    i: u32,
    first_column: u32,
    n_columns: u32,
}

fn due(t: u32, row: u32, column: u32, group: u32, groups: u32) -> Due {
    let level = tables[t + 1u];
    let is_grouped = tables[t + 2u] == 1u;
    let half_width = tables[t + 15u];
    let ahead = tables[t + 11u];
    var start = 0u;
    var end = half_width;
    if is_grouped {
        start = (group * half_width + groups - 1u) / groups;
        end = ((group + 1u) * half_width + groups - 1u) / groups;
    }
    let n_units = (end - start) * (tables[t + 4u] / half_width);
    let i = row >> level;
    let j = column >> level;
    // A coarser grid has a position for the first of its pixels only.
    let is_due = (i << level) == row && (j << level) == column && (is_grouped || group == 0u);
    let first_column = select(j + ahead, 0u, j == 0u);
    let end_column = min(j + ahead + 1u, tables[t + 14u]);
    let n_columns = select(0u, end_column - first_column, is_due && first_column < end_column);
    return Due(start, end - start, half_width, n_units, i, first_column, n_columns);
}

// Number of an output among the layer's channels.
fn channel_of(due: Due, unit: u32) -> u32 {
    return due.start + unit + select(0u, due.half_width - due.width, unit >= due.width);
}

struct Convolution {
    n_in: u32,
    input: Place,
    extent: vec2<i32>,
    weight: u32,
    n_taps: u32,
    tap_width: i32,
    corner: vec2<i32>,
    stride: u32,
    up: u32,
    // Channels that the last tap sees; the others see all.
    last_visible: u32,
}

fn convolution(t: u32, group: u32, groups: u32) -> Convolution {
    let n_in = tables[t + 3u];
    let up = tables[t + 23u];
    let mask = tables[t + 24u];
    let extent = vec2(i32(tables[t + 12u] << up), i32(tables[t + 13u] << up));
    let corner = vec2(i32(tables[t + 20u]), i32(tables[t + 21u]));
    let last_visible = select(((group + mask - 1u) * n_in + groups - 1u) / groups, n_in, mask == 0u);
    return Convolution(
        n_in, place(t + 5u), extent, tables[t + 16u], tables[t + 18u], i32(tables[t + 19u]), corner, tables[t + 22u], up,
        last_visible,
    );
}

// What the taps add to UNITS outputs at position (i, j) of SAMPLES samples, which start at `bases` in the state. LANES
// neighbours have the same position and samples, and other outputs.
fn tap_sums(
    conv: Convolution, outputs: array<u32, UNITS>, bases: array<u32, SAMPLES>, i: u32, j: u32, lane: u32,
) -> array<f32, UNITS * SAMPLES> {
    let row_quads = (conv.n_in + 3u) / 4u;
    let corner = vec2(i32(i * conv.stride), i32(j * conv.stride)) - conv.corner;
    //#for r in 0..SAMPLES
    let base{r} = bases[{r}];
    //#end
    //#for u in 0..UNITS
    var weight{u} = conv.weight + outputs[{u}] * conv.n_taps * row_quads;
    //#for r in 0..SAMPLES
    var sum{u}_{r} = 0.0;
    //#end
    //#end
    var at = corner;
    for (var tap = 0u; tap < conv.n_taps; tap++) {
        let visible = select(conv.n_in, conv.last_visible, tap + 1u == conv.n_taps);
        let is_inside = all(at >= vec2(0)) && all(at < conv.extent);
        let n_quads = select(0u, (visible + 3u) / 4u, is_inside);
        let input = word_of(conv.input, u32(at.x) >> conv.up, u32(at.y) >> conv.up);
        for (var first = 0u; first < n_quads; first += LANES) {
            // Lane l of LANES neighbours loads the l-th vec4 of each sample for all of them.
            let own = min(first + lane % LANES, n_quads - 1u);
            let is_visible = vec4(4u * own, 4u * own + 1u, 4u * own + 2u, 4u * own + 3u) < vec4(visible);
            //#for r in 0..SAMPLES
            let own{r} = select(vec4(0.0), state[(base{r} + input) / 4u + own], is_visible);
            //#end
            for (var k = first; k < min(first + LANES, n_quads); k++) {
                //#for u in 0..UNITS
                let w{u} = context_net[weight{u} + k];
                //#end
                //#for r in 0..SAMPLES
                let x{r} = broadcast(own{r}, k - first);
                //#for u in 0..UNITS
                sum{u}_{r} += dot(w{u}, x{r});
                //#end
                //#end
            }
        }
        //#for u in 0..UNITS
        weight{u} += row_quads;
        //#end
        at.y += 1;
        if at.y == corner.y + conv.tap_width {
            at = vec2(at.x + 1, corner.y);
        }
    }
    var sums: array<f32, UNITS * SAMPLES>;
    //#for u in 0..UNITS
    //#for r in 0..SAMPLES
    sums[{u}u * SAMPLES + {r}u] = sum{u}_{r};
    //#end
    //#end
    return sums;
}

// A convolution for samples first .. first + n_samples: eight threads side by side take 8 UNITS outputs of one position.
fn convolve_due(t: u32, due: Due, is_last: bool, group: u32, groups: u32, first: u32, n_samples: u32, thread: u32) {
    let conv = convolution(t, group, groups);
    let destination = place(t + 8u);
    let bias = tables[t + 17u];
    let accumulate = tables[t + 25u] == 1u;
    let n_blocks = (due.n_units + 8u * UNITS - 1u) / (8u * UNITS);
    let n_items = (n_samples + SAMPLES - 1u) / SAMPLES * due.n_columns * n_blocks;
    for (var item = thread / 8u; item < n_items; item += THREADS / 8u) {
        let run = quotient(item, n_blocks);
        let unit = (item - run * n_blocks) * 8u * UNITS + thread % 8u;
        let sample = quotient(run, due.n_columns) * SAMPLES;
        let at = due.first_column + run - sample / SAMPLES * due.n_columns;
        var outputs: array<u32, UNITS>;
        //#for u in 0..UNITS
        outputs[{u}] = channel_of(due, min(unit + 8u * {u}u, due.n_units - 1u));
        //#end
        var bases: array<u32, SAMPLES>;
        //#for r in 0..SAMPLES
        bases[{r}] = (first + min(sample + {r}u, n_samples - 1u)) * params.state_words;
        //#end
        let sums = tap_sums(conv, outputs, bases, due.i, at, thread % 8u);
        //#for u in 0..UNITS
        if unit + 8u * {u}u < due.n_units {
            let channel = outputs[{u}];
            let bias{u} = context_net[bias + channel / 4u][channel % 4u];
            let output = select(word_of(destination, due.i, at) + channel, params.context_at + unit + 8u * {u}u, is_last);
            //#for r in 0..SAMPLES
            if sample + {r}u < n_samples {
                var value{u}_{r} = bias{u} + sums[{u}u * SAMPLES + {r}u];
                if accumulate {
                    value{u}_{r} += state_word(bases[{r}] + output);
                }
                set_state(bases[{r}] + output, value{u}_{r});
            }
            //#end
        }
        //#end
    }
}

// An activation or a gate for samples first .. first + n_samples, a thread for each value.
fn activate_due(t: u32, due: Due, first: u32, n_samples: u32, thread: u32) {
    let is_gate = tables[t] == 2u;
    let source = place(t + 5u);
    let destination = place(t + 8u);
    let skip = place(t + 16u);
    for (var item = thread; item < n_samples * due.n_columns * due.n_units; item += THREADS) {
        let run = quotient(item, due.n_units);
        let channel = channel_of(due, item - run * due.n_units);
        let sample = quotient(run, due.n_columns);
        let at = due.first_column + run - sample * due.n_columns;
        let base = (first + sample) * params.state_words + channel;
        let z = state_word(base + word_of(source, due.i, at));
        var value = phi(CONTEXT_ACTIVATION, z);
        if is_gate {
            let gate = state_word(base + word_of(source, due.i, at) + due.half_width);
            value = state_word(base + word_of(skip, due.i, at)) + phi(GATE, z) * sigmoid(gate);
        }
        set_state(base + word_of(destination, due.i, at), value);
    }
}

// Every layer at dimension d, for samples first .. first + n_samples; the last one's values become the context.
// Every thread of the workgroup must call it; ends with a barrier.
fn image_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    let width = tables[params.context_table];
    let groups = tables[params.context_table + 1u];
    let group = d % groups;
    let row = d / groups / width;
    let column = d / groups % width;
    // The pixels' place is padded, so that its channels are whole vec4s; the last known one is not there yet.
    let pixels = tables[params.context_table + 2u];
    let known = max(d, 1u) - 1u;
    for (var sample = first + thread; sample < first + n_samples; sample += THREADS) {
        let base = sample * params.state_words;
        let pixel = base + pixels + known / groups * 4u * ((groups + 3u) / 4u) + known % groups;
        set_state(pixel, select(0.0, state_word(base + known), d > 0u));
    }
    storageBarrier();
    workgroupBarrier();
    for (var index = 0u; index < params.n_context_layers; index++) {
        let t = params.context_table + 3u + LAYER_WORDS * index;
        let due = due(t, row, column, group, groups);
        if tables[t] == 0u {
            let is_last = index + 1u == params.n_context_layers;
            convolve_due(t, due, is_last, group, groups, first, n_samples, thread);
        } else {
            activate_due(t, due, first, n_samples, thread);
        }
        storageBarrier();
        workgroupBarrier();
    }
}
