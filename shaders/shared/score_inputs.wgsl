// The network's input on a thread's two lines. The includer includes score_net and score_rows.
fn write_inputs(base: u32, first: u32, n_rows: u32, line: u32) {
    for (var quad = 0u; quad < quads(layers[0].n_in); quad++) {
        set_input(base, quad, line, input_pair(first, n_rows, line, quad));
    }
}
