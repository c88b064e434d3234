// What an output position of a masked convolution looks at. The includer includes conv_taps, has the sizes of x and y among
// its params and defines x_at(i).

// What an output position needs to find its inputs: the first row of its image, and the corner of its taps.
struct Place {
    image: u32,
    corner: vec2<i32>,
}

fn place_of(row: u32) -> Place {
    let j = row % params.out_width;
    let i = row / params.out_width % params.out_height;
    let image = row / params.out_width / params.out_height * params.in_height * params.in_width;
    return Place(image, vec2(i32(i * params.stride) - i32(params.above), i32(j * params.stride) - i32(params.left)));
}

// Quad of x that a tap sees from there; zero outside the image.
fn input_quad(place: Place, step: vec2<i32>, quad: u32, n_quads: u32) -> vec4<f32> {
    let at = place.corner + step;
    let extent = vec2(i32(params.in_height << params.up), i32(params.in_width << params.up));
    if any(at < vec2(0)) || any(at >= extent) {
        return vec4(0.0);
    }
    let row = place.image + u32(at.x >> params.up) * params.in_width + u32(at.y >> params.up);
    return x_at(row * n_quads + quad);
}

