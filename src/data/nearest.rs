//! What somebody may have meant.

/// The candidate that looks most like `found`.
pub(super) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    let likeness = |candidate: &str| strsim::jaro_winkler(found, candidate);
    candidates.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).expect("there are candidates")
}
