//! Rows that are no samples: counted as they are met, named in one line at the end.

use super::layout::{Layout, list, short};
use super::number::describe;
use crate::data::Decimal;

/// What is wrong with a row; the first that holds of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A quote that is not closed.
    Quote,
    /// Another number of fields than the table's.
    Width,
    /// Text in place of a number.
    Text,
    /// A number that is too large.
    TooLarge,
    /// An infinite number.
    Infinite,
    /// A missing value.
    Hole,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Quote, Self::Width, Self::Text, Self::TooLarge, Self::Infinite, Self::Hole];

    fn in_words(self) -> &'static str {
        match self {
            Self::Quote => "with an unclosed quote",
            Self::Width => "with another number of fields",
            Self::Text => "with text",
            Self::TooLarge => "with too large numbers",
            Self::Infinite => "with infinite numbers",
            Self::Hole => "with holes",
        }
    }
}

/// A cell, or a row, at fault.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) line: u64,
    /// Of a cell: its column. Of [`Kind::Width`]: the number of fields.
    pub(super) column: usize,
    pub(super) text: String,
}

/// All faults of a table.
#[derive(Debug)]
pub(super) struct Faults {
    rows: [u64; Kind::ALL.len()],
    first: [Option<Place>; Kind::ALL.len()],
    holes: Vec<u64>,
    texts: Vec<u64>,
    first_texts: Vec<Option<Place>>,
}

impl Faults {
    /// None yet, of so many columns.
    pub(super) fn new(columns: usize) -> Self {
        let first_texts = vec![None; columns];
        Self { rows: [0; 6], first: [const { None }; 6], holes: vec![0; columns], texts: vec![0; columns], first_texts }
    }

    /// Counts a row by the worst of its faults.
    pub(super) fn add_row(&mut self, kind: Kind, place: impl FnOnce() -> Place) {
        self.rows[kind as usize] += 1;
        self.first[kind as usize].get_or_insert_with(place);
    }

    /// Counts a cell.
    pub(super) fn add_cell(&mut self, kind: Kind, line: u64, column: usize, text: &str) {
        match kind {
            Kind::Hole => self.holes[column] += 1,
            Kind::Text => {
                self.texts[column] += 1;
                self.first_texts[column].get_or_insert_with(|| Place { line, column, text: text.to_owned() });
            }
            _ => {}
        }
    }

    /// Rows at fault.
    pub(super) fn count(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// What is wrong and how to mend it, in two sentences; of a table of so many rows.
    pub(super) fn refusal(&self, layout: &Layout, decimal: Decimal, rows: u64) -> (String, String) {
        let columns = 0..self.texts.len();
        let of_text: Vec<usize> = columns.filter(|&column| self.texts[column] * 2 > rows).collect();
        if !of_text.is_empty() {
            return self.text_columns(&of_text, layout, decimal);
        }
        let at = |kind: &Kind| self.first[*kind as usize].as_ref().map(|place| place.line);
        let loud = Kind::ALL.into_iter().filter(|kind| *kind < Kind::Infinite && at(kind).is_some()).min_by_key(at);
        let kinds = [loud, Some(Kind::Infinite), Some(Kind::Hole)];
        let kind = kinds.into_iter().flatten().find(|kind| at(kind).is_some()).expect("there is a fault");
        let others: Vec<String> = Kind::ALL
            .into_iter()
            .filter(|&other| other != kind && self.rows[other as usize] > 0)
            .map(|other| format!("{} {}", self.rows[other as usize], other.in_words()))
            .collect();
        let besides = if others.is_empty() { String::new() } else { format!("; other rows: {}", others.join(", ")) };
        match kind {
            Kind::Hole => self.holes_in_words(layout, rows),
            _ => (self.in_words(kind, layout, decimal) + &besides, self.remedy(kind, layout)),
        }
    }

    /// What was left out of a table of so many rows.
    pub(super) fn note(&self, layout: &Layout, decimal: Decimal, rows: u64) -> Option<String> {
        let met: Vec<Kind> = Kind::ALL.into_iter().filter(|&kind| self.rows[kind as usize] > 0).collect();
        let line = |kind: &Kind| self.first[*kind as usize].as_ref().map(|place| place.line);
        let first = *met.iter().min_by_key(|kind| line(kind))?;
        let counts: Vec<String> =
            met.iter().map(|&kind| format!("{} {}", self.rows[kind as usize], kind.in_words())).collect();
        let (count, first) = (self.count(), self.first_in_words(first, layout, decimal));
        Some(format!("{count} of {rows} rows left out: {}; the first: {first}", counts.join(", ")))
    }

    fn first_in_words(&self, kind: Kind, layout: &Layout, decimal: Decimal) -> String {
        let Place { line, column, text } = self.first[kind as usize].as_ref().expect("there is one of this kind");
        let label = || layout.label(*column);
        match kind {
            Kind::Quote => format!("line {line} opens a quote (\") that is not closed before the next separator"),
            Kind::Width => {
                let fields = if *column == 1 { "field" } else { "fields" };
                let shown = if *column == 1 { format!(", `{}`", short(text)) } else { String::new() };
                let columns = layout.names.len() + layout.tail;
                format!("line {line} has {column} {fields}{shown}, where the table has {columns}")
            }
            Kind::Text => {
                format!("line {line}, column {} holds `{}`, {}", label(), short(text), describe(text, decimal))
            }
            Kind::TooLarge => {
                format!("line {line}, column {} holds `{}`, which is beyond float64", label(), short(text))
            }
            Kind::Infinite => format!("line {line}, column {} holds `{}`, which is not finite", label(), short(text)),
            Kind::Hole if text.is_empty() => format!("line {line}, column {} is empty", label()),
            Kind::Hole => format!("line {line}, column {} holds `{}`, a hole", label(), short(text)),
        }
    }

    fn in_words(&self, kind: Kind, layout: &Layout, decimal: Decimal) -> String {
        let first = self.first_in_words(kind, layout, decimal);
        match self.rows[kind as usize] - 1 {
            0 => first,
            1 => format!("{first}, and one more row {}", kind.in_words()),
            more => format!("{first}, and {more} more rows {}", kind.in_words()),
        }
    }

    fn remedy(&self, kind: Kind, layout: &Layout) -> String {
        let place = self.first[kind as usize].as_ref().expect("there is one of this kind");
        let what = match kind {
            Kind::Quote | Kind::Width => return "Mend the line, or leave such rows out by --broken skip".into(),
            // A header among numbers can pass for a sample.
            Kind::Text if place.line == layout.first_line && !layout.has_names => {
                " (or say --header yes, if it is one)"
            }
            _ => "",
        };
        let key = layout.key(place.column);
        format!("Leave such rows out by --broken skip, or the column by --skip-columns {key}{what}")
    }

    fn text_columns(&self, columns: &[usize], layout: &Layout, decimal: Decimal) -> (String, String) {
        let each = columns.iter().map(|&column| {
            let Place { line, text, .. } = self.first_texts[column].as_ref().expect("it has text");
            let (label, kind) = (layout.label(column), describe(text, decimal));
            format!("column {label} holds `{}` in line {line}, {kind}", short(text))
        });
        let keys: Vec<String> = columns.iter().map(|&column| layout.key(column)).collect();
        let each: Vec<String> = each.take(5).collect();
        let more =
            if columns.len() > each.len() { format!(" ({} such columns)", columns.len()) } else { String::new() };
        let mark = match decimal {
            Decimal::Point => "comma",
            Decimal::Comma => "point",
        };
        let is_mark = describe(&self.first_texts[columns[0]].as_ref().expect("it has text").text, decimal);
        let other = if is_mark.starts_with("where") { format!(", or say --decimal {mark}") } else { String::new() };
        let what = if columns.len() == 1 { "the column" } else { "these columns" };
        let remedy = format!("Write numbers there, or leave {what} out by --skip-columns {}{other}", keys.join(","));
        (format!("{}{more}", each.join("; ")), remedy)
    }

    fn holes_in_words(&self, layout: &Layout, rows: u64) -> (String, String) {
        let mut columns: Vec<usize> = (0..self.holes.len()).filter(|&column| self.holes[column] > 0).collect();
        columns.sort_by_key(|&column| std::cmp::Reverse(self.holes[column]));
        let total: u64 = self.holes.iter().sum();
        let first = self.first_in_words(Kind::Hole, layout, Decimal::Point);
        let keys: Vec<String> = columns.iter().take(8).map(|&column| layout.key(column)).collect();
        let by_columns = format!("--skip-columns {}", keys.join(","));
        let problem = match total {
            1 => format!("has a hole: {first}"),
            _ => {
                let each =
                    columns.iter().map(|&column| format!("{} in column {}", self.holes[column], layout.label(column)));
                format!("has {total} holes: {}; the first: {first}", list(&each.collect::<Vec<_>>()))
            }
        };
        let at_fault = self.count();
        let remedy = match at_fault {
            all if all >= rows => format!("No row is whole: leave columns out by {by_columns}"),
            1 => format!("Leave its row out by --broken skip, or the column by {by_columns}"),
            some => format!("Leave {some} of {rows} rows out by --broken skip, or columns by {by_columns}"),
        };
        (problem, remedy)
    }
}
