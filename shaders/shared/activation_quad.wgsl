// The activation ACTIVATION of four values. Written out it has hundreds of call sites in a kernel, where a switch each, even
// one that vanishes, would take drivers seconds.

//#include activation
fn phi_quad(z: vec4<f32>) -> vec4<f32> {
    return vec4(phi_{ACTIVATION}(z.x), phi_{ACTIVATION}(z.y), phi_{ACTIVATION}(z.z), phi_{ACTIVATION}(z.w));
}

fn phi_first_quad(z: vec4<f32>) -> vec4<f32> {
    return vec4(
        phi_first_{ACTIVATION}(z.x), phi_first_{ACTIVATION}(z.y), phi_first_{ACTIVATION}(z.z), phi_first_{ACTIVATION}(z.w),
    );
}

fn phi_second_quad(z: vec4<f32>) -> vec4<f32> {
    return vec4(
        phi_second_{ACTIVATION}(z.x), phi_second_{ACTIVATION}(z.y), phi_second_{ACTIVATION}(z.z), phi_second_{ACTIVATION}(z.w),
    );
}
