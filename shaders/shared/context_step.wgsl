// The context of dimension d from the dimensions before it, by whatever kind of network the model has.
// The includer declares the constant IS_IMAGE_NET and includes made_step and image_step.
fn context_advance(d: u32, first: u32, n_samples: u32, thread: u32) {
    if IS_IMAGE_NET == 1u {
        image_advance(d, first, n_samples, thread);
    } else {
        made_advance(d, first, n_samples, thread);
    }
}
