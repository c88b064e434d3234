// What every form of the score network shares: the layer table and a thread's two lines. The includer declares tables and
// LAYERS, and calls load_layers before all else.
// Layer table, 8 words a layer: n_in, n_out, weight, bias (offsets in `net`, vec4s), input, z, h (offsets in the
// workgroup's scratch, vec4s; tile_at gives places in them), unused. The last layer has one output and no z, h.

//#loads net
const THREADS = 8u * GROUP_ROWS;

struct Layer {
    n_in: u32,
    n_out: u32,
    weight: u32,
    bias: u32,
    input: u32,
    z: u32,
    h: u32,
}

// Values of a thread's two lines.
struct Pair {
    even: vec4<f32>,
    odd: vec4<f32>,
}

var<private> layers: array<Layer, LAYERS>;

fn load_layers() {
    //#for i in 0..LAYERS
    layers[{i}] = Layer(
        tables[{8i}], tables[{8i+1}], tables[{8i+2}], tables[{8i+3}],
        tables[{8i+4}], tables[{8i+5}], tables[{8i+6}],
    );
    //#end
}

fn quads(n: u32) -> u32 {
    return (n + 3u) / 4u;
}

// Zero beyond the last column, so that padding stays zero.
fn keep_columns(v: vec4<f32>, first: u32, n: u32) -> vec4<f32> {
    return select(vec4(0.0), v, vec4(first, first + 1u, first + 2u, first + 3u) < vec4(n));
}

fn activate(z: Pair, column: u32, n: u32) -> Pair {
    let odd = select(phi_quad(z.odd), phi_first_quad(z.even) * z.odd, TANGENT == 1u);
    return Pair(keep_columns(phi_quad(z.even), column, n), keep_columns(odd, column, n));
}
