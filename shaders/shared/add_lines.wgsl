// Adding up what the threads of a workgroup of 8 x GROUP_ROWS have, column by column.

var<workgroup> of_lines: array<vec4<f32>, 8u * GROUP_ROWS>;

// The sum over a column of threads, pairwise in a fixed order, for the first of them. All threads call it.
fn add_lines(own: vec4<f32>, local: vec3<u32>) -> vec4<f32> {
    let place = local.y * 8u + local.x;
    of_lines[place] = own;
    for (var width = GROUP_ROWS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local.y < width {
            of_lines[place] += of_lines[place + 8u * width];
        }
    }
    return of_lines[place];
}
