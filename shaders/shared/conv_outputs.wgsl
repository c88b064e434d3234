// Which output positions of a masked convolution look at an input position. The includer includes conv_taps, has the sizes
// of x and y among its params and defines dy_at(i).

// What an input position needs to find the outputs that look at it: the first row of their image, and its own place on
// the grid of repeated positions, moved so that taps count from the corner.
struct Place {
    image: u32,
    corner: vec2<i32>,
}

fn place_of(row: u32) -> Place {
    let j = row % params.in_width;
    let i = row / params.in_width % params.in_height;
    let image = row / params.in_width / params.in_height * params.out_height * params.out_width;
    return Place(image, vec2(i32((i << params.up) + params.above), i32((j << params.up) + params.left)));
}

// Quad of dy where a tap looks from to there; zero where there is no such position.
fn output_quad(place: Place, step: vec2<i32>, quad: u32, n_quads: u32) -> vec4<f32> {
    let jump = params.stride - 1u;
    let strided = place.corner - step;
    let at = vec2(strided.x >> jump, strided.y >> jump);
    let between = ((strided.x | strided.y) & i32(jump)) != 0;
    if between || any(at < vec2(0)) || any(at >= vec2(i32(params.out_height), i32(params.out_width))) {
        return vec4(0.0);
    }
    return dy_at((place.image + u32(at.x) * params.out_width + u32(at.y)) * n_quads + quad);
}

