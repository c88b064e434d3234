// score_net where memory is slow and a thread's own arrays are not (software adapters: a load is a loop over lanes): all
// activations of a thread's two lines stay in its private memory. Elements are named when the shader is compiled, as if they
// were variables: an array with a single index that is not known then is stored lane by lane. So the loops run over inputs,
// which are picked by comparing, and everything else is written out. Weights come from a uniform buffer, one vec4 a thread,
// which the eight neighbours pass round. Functions and arguments as in score_net; `base` and `line` mean nothing here.
//
// Of hidden layer n, which has the widths WIDTH_n (vec4s; WIDTH_0 is the input's, the others are even): z_n and h_n, and what
// sums start with, its biases and of the first layer the products with the columns that stay.

//#include score_layers
//#for i in 0..LAYERS
var<private> h_even_{i}: array<vec4<f32>, WIDTH_{i}>;
var<private> h_odd_{i}: array<vec4<f32>, WIDTH_{i}>;
//#end
//#for i in 0..HIDDEN
var<private> z_even_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
var<private> z_odd_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
var<private> start_even_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
var<private> start_odd_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
//#end

fn set_input(base: u32, quad: u32, line: u32, pair: Pair) {
    h_even_0[quad] = pair.even;
    h_odd_0[quad] = pair.odd;
}

// The dot products of a thread's two lines with four rows of weights, which four neighbours from lane `first` on have.
fn four_products(x: Pair, own: vec4<f32>, first: u32) -> Pair {
    //#for u in 0..4
    let w{u} = broadcast(own, first + {u}u);
    //#end
    return Pair(
        vec4(dot(x.even, w0), dot(x.even, w1), dot(x.even, w2), dot(x.even, w3)),
        vec4(dot(x.odd, w0), dot(x.odd, w1), dot(x.odd, w2), dot(x.odd, w3)),
    );
}

// Columns 4 quad .. + 4 of the input of each layer.
fn pick_0(quad: u32) -> Pair {
    return Pair(h_even_0[quad], h_odd_0[quad]);
}

//#for i in 0..HIDDEN
fn pick_{i+1}(quad: u32) -> Pair {
    var x = Pair(h_even_{i+1}[0], h_odd_{i+1}[0]);
    //#for o in 1..WIDTH_{i+1}
    x.even = select(x.even, h_even_{i+1}[{o}], vec4(quad == {o}u));
    x.odd = select(x.odd, h_odd_{i+1}[{o}], vec4(quad == {o}u));
    //#end
    return x;
}

// Layer {i+1}: z = W h_in + b and h = phi(z). Of the input, the first n_fixed vec4s are as before unless all is new.
fn hidden_forward_{i}(lane: u32, n_fixed: u32, is_new: bool) {
    let layer = layers[{i}];
    let in_quads = quads(layer.n_in);
    let last = layer.n_out - 1u;
    // A loop, since software adapters do not skip what an `if` leaves out.
    for (var times = u32(is_new); times > 0u; times--) {
        //#for o in 0..WIDTH_{i+1}
        let bias{o} = net_at(layer.bias + min({o}u, last / 4u));
        start_even_{i+1}[{o}] = bias{o};
        start_odd_{i+1}[{o}] = select(bias{o}, vec4(0.0), TANGENT == 1u);
        //#end
    }
    //#for o in 0..WIDTH_{i+1}
    var even{o} = start_even_{i+1}[{o}];
    var odd{o} = start_odd_{i+1}[{o}];
    //#end
    //#for b in 0..WIDTH_{i+1}/2
    let row{b} = layer.weight + min({8b}u + lane, last) * in_quads;
    //#end
    for (var quad = select(n_fixed, 0u, is_new); quad < in_quads; quad++) {
        let x = pick_{i}(quad);
        if {i}u == 0u {
            //#for o in 0..WIDTH_{i+1}
            start_even_{i+1}[{o}] = select(start_even_{i+1}[{o}], even{o}, vec4(quad == n_fixed));
            start_odd_{i+1}[{o}] = select(start_odd_{i+1}[{o}], odd{o}, vec4(quad == n_fixed));
            //#end
        }
        //#for b in 0..WIDTH_{i+1}/2
        let own{b} = net_at(row{b} + quad);
        //#for h in 0..2
        let product{b}_{h} = four_products(x, own{b}, {4h}u);
        //#end
        even{2b} += product{b}_0.even;
        odd{2b} += product{b}_0.odd;
        even{2b+1} += product{b}_1.even;
        odd{2b+1} += product{b}_1.odd;
        //#end
    }
    //#for o in 0..WIDTH_{i+1}
    z_even_{i+1}[{o}] = even{o};
    z_odd_{i+1}[{o}] = odd{o};
    let h{o} = activate(Pair(even{o}, odd{o}), {4o}u, layer.n_out);
    h_even_{i+1}[{o}] = h{o}.even;
    h_odd_{i+1}[{o}] = h{o}.odd;
    //#end
}
//#end

fn score_output(base: u32, n_fixed: u32, is_new: bool, lane: u32, line: u32) -> vec2<f32> {
    hidden_forward_0(lane, n_fixed, is_new);
    //#for i in 1..HIDDEN
    hidden_forward_{i}(lane, 0u, is_new);
    //#end
    let output = layers[HIDDEN];
    let bias = net_at(output.bias).x;
    var f = vec2(bias, select(bias, 0.0, TANGENT == 1u));
    //#for o in 0..WIDTH_{HIDDEN}
    let w{o} = net_at(output.weight + min({o}u, quads(output.n_in) - 1u));
    f += vec2(dot(w{o}, h_even_{HIDDEN}[{o}]), dot(w{o}, h_odd_{HIDDEN}[{o}]));
    //#end
    return f;
}
