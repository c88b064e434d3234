//! Profiles in the form that trace viewers of browsers open: the Trace Event Format of chrome://tracing and Perfetto.

use serde_json::{Value, json};

use crate::gpu::{Launch, Profile, Span, Track};

use super::Environment;

/// One JSON object with all profiles one after another: the host's spans and the adapter's in two rows.
pub fn trace_json(environment: &Environment, profiles: &[(String, Profile)]) -> Value {
    let name_of = |what: &str, thread: u32, name: &str| json!({ "name": what, "ph": "M", "pid": 1, "tid": thread, "args": { "name": name } });
    let adapter = &environment.adapter.name;
    let mut events = vec![
        name_of("process_name", 0, &format!("arcsm-bench on {adapter}")),
        name_of("thread_name", 0, "case"),
        name_of("thread_name", 1, "host"),
        name_of("thread_name", 2, adapter),
    ];
    let mut offset = 0.0;
    for (case, profile) in profiles {
        let length = profile.spans.iter().map(|span| span.start + span.seconds).fold(0.0, f64::max);
        let clock = json!({ "clock": profile.clock });
        events.push(complete(case, "case", 0, offset, length, clock));
        events.extend(profile.spans.iter().map(|span| event(span, offset)));
        offset += length;
    }
    json!({ "displayTimeUnit": "ms", "otherData": environment, "traceEvents": events })
}

fn event(span: &Span, offset: f64) -> Value {
    let thread = match span.track {
        Track::Host => 1,
        Track::Adapter => 2,
    };
    let category = match (span.track, &span.launch) {
        (Track::Host, _) => "host",
        (Track::Adapter, Some(_)) => "kernel",
        (Track::Adapter, None) => "transfer",
    };
    let arguments = span.launch.as_ref().map_or_else(|| json!({}), |launch| arguments(launch, span.within));
    complete(span.name, category, thread, offset + span.start, span.seconds, arguments)
}

/// A complete event; times in microseconds.
fn complete(name: &str, category: &str, thread: u32, start: f64, seconds: f64, arguments: Value) -> Value {
    json!({
        "name": name, "cat": category, "ph": "X", "pid": 1, "tid": thread,
        "ts": 1e6 * start, "dur": 1e6 * seconds, "args": arguments,
    })
}

fn arguments(launch: &Launch, submission: &str) -> Value {
    let tensors = launch.spec.bindings.iter().zip(&launch.tensors);
    let shapes: serde_json::Map<String, Value> =
        tensors.map(|(binding, tensor)| (binding.name.to_owned(), json!(tensor.shape()))).collect();
    json!({
        "submission": submission,
        "variant": launch.variant.needs,
        "workgroups": launch.grid.to_array(),
        "tensors": shapes,
    })
}
