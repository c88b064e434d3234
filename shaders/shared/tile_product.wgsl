// One tile of a matrix product by one workgroup: for TILE_LINES lines and TILE_COLUMNS columns the sum over terms of
// left(line, term) right(term, column).
//
// The terms come in blocks of 4 BLOCK_QUADS. A block of both factors is fetched while the one before is multiplied, and then
// staged in the workgroup's memory; from there a thread takes the 4 x 4 values that its ROWS lines and QUADS times 4 columns
// need at a time. Its sums stay in registers. SLICES slices of threads have the whole tile each and sum their share of
// every block; in the end they are added up in a fixed order, so the same inputs give the same bits.
//
// Factors come in quads: of four neighbouring terms of a line or column where they lie ALONG the sum, else of one term of
// four neighbouring lines or columns. The includer declares
//   LEFT_ALONG and RIGHT_ALONG;
//   Line and line_of(line), Column and column_of(column): what loading from there needs, found once, whatever the terms;
//   left_quad(line, term) and right_quad(column, term): the quad that begins there. Lines, columns and terms may lie past the
//   ends: what exists is to be read then, and past the last term one of the factors has to be zero.

const SLICE_THREADS = GROUP_COLUMNS * GROUP_ROWS;
const THREADS = SLICE_THREADS * SLICES;
const BLOCK_TERMS = 4u * BLOCK_QUADS;
// The place of the right factor in the memory; what a slice leaves there to be added up.
const RIGHT = TILE_LINES * BLOCK_QUADS;
const SLICE_QUADS = TILE_LINES * TILE_COLUMNS / 4u;

var<workgroup> staged: array<vec4<f32>, max(RIGHT + TILE_COLUMNS * BLOCK_QUADS, SLICES / 2u * SLICE_QUADS)>;

// What a thread has summed for its lines and quads of columns; the whole sum in slice 0 in the end.
//#for r in 0..ROWS
//#for q in 0..QUADS
var<private> sum{r}_{q}: vec4<f32>;
//#end
//#end

// Line r of a thread, within the tile: fours of lines, as far apart as there are threads.
fn own_line(thread: vec3<u32>, r: u32) -> u32 {
    return 4u * (thread.y + r / 4u * GROUP_ROWS) + r % 4u;
}

// First column of quad q of a thread, within the tile.
fn own_column(thread: vec3<u32>, q: u32) -> u32 {
    return 4u * (thread.x + q * GROUP_COLUMNS);
}

// Where a quad begins, within the tile and the block; `line` is a column of the right factor.
struct Quad {
    line: u32,
    term: u32,
}

// Neighbouring threads fetch neighbouring quads.
fn quad_of(index: u32, along: bool, lines: u32) -> Quad {
    if along {
        return Quad(index / BLOCK_QUADS, 4u * (index % BLOCK_QUADS));
    }
    return Quad(4u * (index % (lines / 4u)), index / (lines / 4u));
}

// Its slot among the staged quads of its factor. Threads side by side read every fourth line at once, so these are turned
// against each other to lie in different banks.
fn slot_of(quad: Quad, along: bool, lines: u32) -> u32 {
    if along {
        return quad.line * BLOCK_QUADS + ((quad.term / 4u) ^ (quad.line / 4u % 8u));
    }
    return quad.term * (lines / 4u) + quad.line / 4u;
}

// 4 x 4 staged values; a column of the matrix is a line of the left factor.
fn left_values(line: u32, term: u32) -> mat4x4<f32> {
    //#for j in 0..4
    let quad{j} = staged[slot_of(beside(line, term, {j}u, LEFT_ALONG), LEFT_ALONG, TILE_LINES)];
    //#end
    let values = mat4x4(quad0, quad1, quad2, quad3);
    if LEFT_ALONG {
        return values;
    }
    return transpose(values);
}

// 4 x 4 staged values; a column of the matrix is a term of the right factor.
fn right_values(column: u32, term: u32) -> mat4x4<f32> {
    //#for j in 0..4
    let quad{j} = staged[RIGHT + slot_of(beside(column, term, {j}u, RIGHT_ALONG), RIGHT_ALONG, TILE_COLUMNS)];
    //#end
    let values = mat4x4(quad0, quad1, quad2, quad3);
    if RIGHT_ALONG {
        return transpose(values);
    }
    return values;
}

// The j-th of the four quads that have the 4 x 4 values from here on.
fn beside(line: u32, term: u32, j: u32, along: bool) -> Quad {
    if along {
        return Quad(line + j, term);
    }
    return Quad(line, term + j);
}

// Sums over the terms from `first_term` (a multiple of 4 where a factor lies along the sum) to `end_term`. All but `thread`
// are the same for all threads.
fn sum_products(thread: vec3<u32>, first_line: u32, first_column: u32, first_term: u32, end_term: u32) {
    let slice_thread = thread.y * GROUP_COLUMNS + thread.x;
    let index = thread.z * SLICE_THREADS + slice_thread;
    //#for f in 0..LINE_FETCHES
    let left_quad{f} = quad_of(index + {f}u * THREADS, LEFT_ALONG, TILE_LINES);
    let left_slot{f} = slot_of(left_quad{f}, LEFT_ALONG, TILE_LINES);
    let line{f} = line_of(first_line + left_quad{f}.line);
    var left{f} = left_quad(line{f}, first_term + left_quad{f}.term);
    //#end
    //#for f in 0..COLUMN_FETCHES
    let right_quad{f} = quad_of(index + {f}u * THREADS, RIGHT_ALONG, TILE_COLUMNS);
    let right_slot{f} = RIGHT + slot_of(right_quad{f}, RIGHT_ALONG, TILE_COLUMNS);
    let column{f} = column_of(first_column + right_quad{f}.line);
    var right{f} = right_quad(column{f}, first_term + right_quad{f}.term);
    //#end
    for (var term = first_term; term < end_term; term += BLOCK_TERMS) {
        // The block before has been multiplied.
        workgroupBarrier();
        //#for f in 0..LINE_FETCHES
        staged[left_slot{f}] = left{f};
        //#end
        //#for f in 0..COLUMN_FETCHES
        staged[right_slot{f}] = right{f};
        //#end
        workgroupBarrier();
        let next = term + BLOCK_TERMS;
        if next < end_term {
            //#for f in 0..LINE_FETCHES
            left{f} = left_quad(line{f}, next + left_quad{f}.term);
            //#end
            //#for f in 0..COLUMN_FETCHES
            right{f} = right_quad(column{f}, next + right_quad{f}.term);
            //#end
        }
        //#for s in 0..BLOCK_QUADS/SLICES
        {
            let step = 4u * (thread.z * (BLOCK_QUADS / SLICES) + {s}u);
            //#for g in 0..ROWS/4
            let lines{g} = left_values(own_line(thread, {4g}u), step);
            //#end
            //#for q in 0..QUADS
            let columns{q} = right_values(own_column(thread, {q}u), step);
            //#end
            //#for j in 0..4
            //#for r in 0..ROWS
            //#for q in 0..QUADS
            sum{r}_{q} = fma(vec4(lines{r/4}[{r%4}][{j}]), columns{q}[{j}], sum{r}_{q});
            //#end
            //#end
            //#end
        }
        //#end
    }
    // The second half of the slices leaves its sums to the first half, until one is left.
    for (var half = SLICES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.z >= half && thread.z < 2u * half {
            //#for r in 0..ROWS
            //#for q in 0..QUADS
            staged[(thread.z - half) * SLICE_QUADS + ({r}u * QUADS + {q}u) * SLICE_THREADS + slice_thread] = sum{r}_{q};
            //#end
            //#end
        }
        workgroupBarrier();
        if thread.z < half {
            //#for r in 0..ROWS
            //#for q in 0..QUADS
            sum{r}_{q} += staged[thread.z * SLICE_QUADS + ({r}u * QUADS + {q}u) * SLICE_THREADS + slice_thread];
            //#end
            //#end
        }
    }
}

