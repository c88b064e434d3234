// What the samplers share. The includer includes score_net, parametrisation, state, context_step and philox.

//#include point_scores
fn level_sigma(level: u32) -> f32 {
    return bitcast<f32>(tables[params.sigma_table + level]);
}

// The nearest of the data's levels, where values are on levels: snap_low, snap_low + snap_width .. snap_high.
fn snapped(x: f32) -> f32 {
    if params.snap_width == 0.0 {
        return x;
    }
    let inside = kept(x, clamp(x, params.snap_low, params.snap_high)) - params.snap_low;
    return params.snap_low + round(inside / params.snap_width) * params.snap_width;
}
