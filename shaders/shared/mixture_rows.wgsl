// Rows of a mixture head in training and evaluation, as perturb_rows writes them; their contexts (B, D K).
// The includer declares params, context and rows.

fn context_at(row: u32) -> u32 {
    let pitch = (params.dimensions * params.context_width + 3u) / 4u * 4u;
    return row / params.dimensions * pitch + row % params.dimensions * params.context_width;
}

fn parameter(at: u32, index: u32) -> f32 {
    return context[at + index];
}
