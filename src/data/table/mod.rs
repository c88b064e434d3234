//! Tables as text, one sample a row, as programs and people save them.
//!
//! What is found out, in this order: how bytes are letters and lines (`text`), what parts fields (`sniff`, `split`),
//! which lines are a header and which columns no data (`layout`, `columns`), and what number a cell holds (`number`,
//! `rows`). All of it is told in notes where there could be doubt; what can be read in two ways is refused (`faults`).

mod columns;
mod faults;
mod layout;
mod number;
mod rows;
mod sniff;
mod split;
mod text;

#[cfg(test)]
mod tests;

use std::path::Path;

use self::layout::{Head, Index, Layout, list, short};
use self::rows::{Outcome, Plan};
use self::sniff::Marks;
use self::text::Encoding;
use super::Samples;
use crate::data::{Broken, DataConfig, Decimal, Header, Separator};
use crate::error::{Error, Result};
use crate::files::arrays::Number;
use crate::files::blob::{Blob, Budget};

/// Text beyond so many MiB stays in its file: what counts is the numbers.
const TEXT_MIB: u64 = 64;

/// A table's samples.
#[derive(Debug)]
pub(super) struct Table {
    /// One a row, in float64.
    pub(super) samples: Samples,
    /// The name of each column that was taken: the header's, or the column's number in the file where it has none.
    pub(super) names: Vec<String>,
    /// What the user should know of how it was read.
    pub(super) notes: Vec<String>,
}

/// Reads a table of numbers, as it is or gzipped.
///
/// # Errors
/// Bad input, by line, column and remedy: what is no table, or can be read in several ways; rows with holes, text or
/// another number of fields, unless `broken` lets them be left out.
pub(super) fn read(path: &Path, config: &DataConfig, budget: &mut Budget) -> Result<Table> {
    let is_text = |start: &[u8], subject: &str| Encoding::of_start(start, subject).map(|_| None);
    parse(&Blob::open(path, &mut budget.at_most_mib(TEXT_MIB), &is_text)?, config, budget)
}

fn parse(text: &Blob, config: &DataConfig, budget: &mut Budget) -> Result<Table> {
    let subject = text.subject();
    let encoding = Encoding::of(text)?;
    let separator = match config.separator {
        Some(separator) => Some(separator),
        None => sniff::separator(text, encoding)?,
    };
    let head = Head::read(text, encoding, separator, config.decimal)?;
    let mut layout = Layout::of(&head, config.header.unwrap_or(Header::Auto));
    if layout.names.is_empty() {
        return Err(Error::input(subject, "holds no values: comments or blank lines alone", "Give at least 2 samples"));
    }
    let mut decimal = config.decimal.or(head.marks.decimal()).unwrap_or(Decimal::Point);
    let mut may_turn = config.decimal.is_none();
    loop {
        let mut notes = Vec::new();
        let columns = columns::chosen(&layout, config, subject, &mut notes)?;
        let plan = Plan { text, encoding, separator, decimal, layout: &layout, columns: &columns };
        let outcome = rows::read(plan, budget)?;
        let found = outcome.marks.decimal();
        if outcome.index_breaks {
            // The first rows looked like an index.
            layout.index = None;
        } else if may_turn && outcome.marks.are_certain() && found.is_some_and(|found| found != decimal) {
            decimal = found.unwrap_or(decimal);
            may_turn = false;
        } else {
            if may_be_thousands(plan, config, &head.marks, &outcome.marks) {
                notes.push("points were read as decimal points, not as parting thousands (--decimal comma)".into());
            }
            if config.decimal.is_none() && found.is_none() && !head.marks.are_certain() {
                return Err(two_readings(subject, &layout, &outcome));
            }
            return finish(plan, outcome, config, budget, notes);
        }
    }
}

/// Whether every number with a point is like `1.234`, in a table that parts fields otherwise than by commas: where
/// thousands are parted so, they are.
fn may_be_thousands(plan: Plan, config: &DataConfig, head: &Marks, all: &Marks) -> bool {
    let is_open = head.either_points > 0 && !head.are_certain() && !all.are_certain();
    is_open && config.decimal.is_none() && plan.separator != Some(Separator::Comma)
}

fn two_readings(subject: &str, layout: &Layout, outcome: &Outcome) -> Error {
    let (line, column, found) = outcome.marks.first_comma.as_ref().expect("a comma left it open");
    let column = layout.label(*column);
    let problem = format!(
        "line {line}, column {column} holds `{}`, whose comma may stand before a fraction or part thousands: no other \
         number tells",
        short(found.trim())
    );
    Error::input(subject, problem, "Say --decimal comma or --decimal point")
}

fn finish(
    plan: Plan,
    outcome: Outcome,
    config: &DataConfig,
    budget: &mut Budget,
    mut notes: Vec<String>,
) -> Result<Table> {
    let (subject, layout) = (plan.text.subject(), plan.layout);
    let rows = outcome.rows();
    if rows == 0 {
        let header =
            if layout.has_names { format!(": a header alone ({})", list(&layout.names)) } else { String::new() };
        return Err(Error::input(subject, format!("holds no values{header}"), "Give at least 2 samples"));
    }
    if outcome.faults.count() > 0 && (config.broken == Broken::Refuse || outcome.tally.samples == 0) {
        let (problem, remedy) = outcome.faults.refusal(layout, plan.decimal, rows);
        return Err(Error::input(subject, problem, remedy));
    }
    refuse_mixed_percents(plan, &outcome)?;
    notes.splice(0..0, layout.notes.iter().cloned());
    add_notes(plan, &outcome, config, &mut notes);
    let name = |&column: &usize| match &layout.names[column] {
        name if name.is_empty() => (column + 1).to_string(),
        name => name.clone(),
    };
    let names: Vec<String> = plan.columns.iter().map(name).collect();
    let values = outcome.values.finish(subject, budget);
    Ok(Table { samples: Samples::from_numbers(names.len(), Number::Double, values, 1), names, notes })
}

/// `12%` and `0.12` in one column: only who made the table knows whether they are the same.
fn refuse_mixed_percents(plan: Plan, outcome: &Outcome) -> Result<()> {
    let samples = outcome.tally.samples;
    let Some(at) = outcome.tally.percents.iter().position(|&count| count > 0 && count < samples) else { return Ok(()) };
    let (column, count) = (plan.columns[at], outcome.tally.percents[at]);
    let problem = format!("column {} has % in {count} of {samples} rows", plan.layout.label(column));
    let remedy = format!("Write all of it in one unit, or leave it out by --skip-columns {}", plan.layout.key(column));
    Err(Error::input(plan.text.subject(), problem, remedy))
}

/// Tells what was read otherwise than a plain table of numbers.
fn add_notes(plan: Plan, outcome: &Outcome, config: &DataConfig, notes: &mut Vec<String>) {
    let (layout, tally) = (plan.layout, &outcome.tally);
    let rows = outcome.rows();
    if layout.index.is_some() && config.columns.is_none() {
        let what = if layout.index == Some(Index::Grows) { "an index" } else { "names of the rows" };
        notes.push(format!("column 1, {what}, was left out (--columns takes it)"));
    }
    match (config.separator, plan.separator) {
        (None, Some(Separator::Semicolon)) => notes.push("fields are parted by semicolons".into()),
        (None, Some(Separator::Tab)) => notes.push("fields are parted by tabs".into()),
        (None, Some(Separator::Bar)) => notes.push("fields are parted by |".into()),
        (None, Some(Separator::Blank)) => notes.push("fields are parted by blanks".into()),
        _ => {}
    }
    if plan.decimal == Decimal::Comma && config.decimal.is_none() {
        notes.push("numbers have decimal commas".into());
    }
    let are_whole = !outcome.marks.are_certain() && plan.separator == Some(Separator::Comma);
    if config.separator.is_none() && are_whole && !layout.has_names && layout.names.len() == 2 {
        notes.push("commas were read as parting whole numbers, not as decimal commas (--separator semicolon)".into());
    }
    if tally.grouped > 0 {
        let count = tally.grouped;
        notes.push(format!("numbers with parted thousands: {count}, as `{}`", short(&tally.first_grouped)));
    }
    for (at, &column) in plan.columns.iter().enumerate() {
        let label = layout.label(column);
        match tally.truths[at] {
            0 => {}
            count if count == tally.samples => {
                notes.push(format!("true (yes) and false (no) in column {label} were read as 1 and 0"));
            }
            count => {
                notes.push(format!("true or false among the numbers of column {label} were read as 1 and 0: {count}"))
            }
        }
        if tally.percents[at] > 0 {
            notes.push(format!("column {label} is in per cent, as in the file"));
        }
    }
    let places = |count: u64, what: &str, line: u64| match count {
        1 => format!("1 {what} was left out (line {line})"),
        count => format!("{count} {what}s were left out (the first: line {line})"),
    };
    if tally.comments > 0 {
        let lines = if tally.comments == 1 { "line of comment was" } else { "lines of comment were" };
        notes.push(format!("{} {lines} left out", tally.comments));
    }
    // In a table of one column a blank line may have been a missing value.
    if tally.blanks > 0 && layout.names.len() == 1 {
        notes.push(places(tally.blanks, "blank line", tally.first_blank));
    }
    if tally.empty_rows > 0 {
        notes.push(places(tally.empty_rows, "empty row", tally.first_empty));
    }
    notes.extend(outcome.faults.note(layout, plan.decimal, rows));
}
