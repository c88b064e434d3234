// The training objective on rows: OBJECTIVE and TANGENT are constants of the pipeline. The includer declares what score_rows
// needs, and in params batch, dimensions, row_stride, low, high.

// (loss, dloss/ds, dloss/ds') of one row.
fn objective(score: f32, slope: f32, row: vec4<u32>) -> vec3<f32> {
    let x = bitcast<f32>(row.y);
    let sigma = bitcast<f32>(row.z);
    switch OBJECTIVE {
        case 0u: {
            let lambda = sigma * sigma;
            return lambda * vec3(0.5 * score * score + slope, score, 1.0);
        }
        case 1u: {
            let residual = sigma * score + bitcast<f32>(row.w);
            return vec3(0.5 * residual * residual, sigma * residual, 0.0);
        }
        case 2u: {
            return vec3(0.5 * score * score + slope, score, 1.0);
        }
        default: {
            // h = distance to the nearer end of the support, so that the boundary terms vanish.
            let centre = 0.5 * (params.low + params.high);
            let h = 0.5 * (params.high - params.low) - abs(x - centre);
            let h_slope = -sign(x - centre);
            return vec3(h * (0.5 * score * score + slope) + h_slope * score, h * score + h_slope, h);
        }
    }
}

// Rows of a group of row_stride share one that was chosen, which stands for all of them.
fn row_weight(index: u32) -> f32 {
    let n_all = params.batch * params.dimensions;
    return f32(min(params.row_stride, n_all - index * params.row_stride)) / f32(params.batch);
}

// (loss, seed of the even line, seed of the odd one) of a thread's rows from the network's output f on its lines: the seeds
// are dJ/df and dJ/df' of one row, or dJ/df of two.
fn loss_and_seeds(first: u32, n_rows: u32, thread: u32, f: vec2<f32>) -> vec3<f32> {
    if TANGENT == 1u {
        return row_terms(first, n_rows, thread, f.x, f.y);
    }
    let even = row_terms(first, n_rows, 2u * thread, f.x, 0.0);
    let odd = row_terms(first, n_rows, 2u * thread + 1u, f.y, 0.0);
    return vec3(even.x + odd.x, even.y, odd.y);
}

// (loss, dJ/df, dJ/df') of the tile's row number `index`; zero past the end.
fn row_terms(first: u32, n_rows: u32, index: u32, f: f32, f_tangent: f32) -> vec3<f32> {
    let row = rows[first + min(index, n_rows - 1u)];
    let value = score_and_slope(row, f, f_tangent);
    let gain = score_gain(bitcast<f32>(row.z), params.sd);
    let terms = row_weight(first + index) * objective(value.x, value.y, row) * vec3(1.0, gain, gain);
    return select(vec3(0.0), terms, vec3(index < n_rows));
}

// dJ/dcontext of a row: columns 4 quad .. + 4.
fn write_dcontext(row: u32, quad: u32, first: u32, n_rows: u32, gradient: vec4<f32>) {
    if row >= n_rows {
        return;
    }
    let at = context_at(rows[first + row].x);
    //#for j in 0..4
    if 4u * quad + {j}u < params.context_width {
        dcontext[at + 4u * quad + {j}u] = gradient[{j}];
    }
    //#end
}
