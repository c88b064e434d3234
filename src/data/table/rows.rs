//! The rows of a table, turned into samples of float64.

use super::faults::{Faults, Kind, Place};
use super::layout::{Index, Layout};
use super::number::{self, Evidence, Reading, Value};
use super::sniff::Marks;
use super::split::{Row, RowKind, Rows};
use super::text::Encoding;
use crate::data::{Decimal, Separator};
use crate::error::Result;
use crate::files::blob::{Blob, Budget, Spool};

/// Bytes that are written together.
const CHUNK: usize = 1 << 16;

/// How a table is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) text: &'a Blob,
    pub(super) encoding: Encoding,
    pub(super) separator: Option<Separator>,
    pub(super) decimal: Decimal,
    pub(super) layout: &'a Layout,
    /// The columns to take, in their order.
    pub(super) columns: &'a [usize],
}

/// What was met on the way, for the notes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) samples: u64,
    pub(super) comments: u64,
    /// Blank lines, and the first of them.
    pub(super) blanks: u64,
    pub(super) first_blank: u64,
    /// Rows of empty fields alone, and the first of them.
    pub(super) empty_rows: u64,
    pub(super) first_empty: u64,
    /// Numbers whose thousands are parted, and the first of them.
    pub(super) grouped: u64,
    pub(super) first_grouped: String,
    /// For each column that is taken: samples with true or false, and with %.
    pub(super) truths: Vec<u64>,
    pub(super) percents: Vec<u64>,
}

/// The samples of a table, and what is wrong with other rows.
pub(super) struct Outcome {
    /// Little-endian float64.
    pub(super) values: Spool,
    pub(super) faults: Faults,
    pub(super) tally: Tally,
    pub(super) marks: Marks,
    /// Whether the first column, taken for an index, is none.
    pub(super) index_breaks: bool,
}

impl Outcome {
    /// Rows of the table, samples or not.
    pub(super) fn rows(&self) -> u64 {
        self.tally.samples + self.faults.count()
    }
}

/// Reads all rows.
///
/// # Errors
/// The file cannot be read, or the values cannot be written to a temporary file.
pub(super) fn read(plan: Plan, budget: &Budget) -> Result<Outcome> {
    let mut rows = Rows::open(plan.text, plan.encoding, plan.separator)?;
    let mut reader = Reader::new(plan, budget);
    let last_header = plan.layout.header_lines.iter().max().copied().unwrap_or(0);
    while let Some(row) = rows.next()? {
        if row.line <= last_header && plan.layout.header_lines.contains(&row.line) {
            continue;
        }
        match row.kind {
            RowKind::Fields => reader.add(&row)?,
            RowKind::Comment => reader.out.tally.comments += 1,
            RowKind::Blank => {
                let tally = &mut reader.out.tally;
                tally.first_blank = if tally.blanks == 0 { row.line } else { tally.first_blank };
                tally.blanks += 1;
            }
            RowKind::BrokenQuote => {
                let place = || Place { line: row.line, column: 0, text: String::new() };
                reader.out.faults.add_row(Kind::Quote, place);
            }
            RowKind::Directive => {}
        }
    }
    reader.finish()
}

struct Reader<'a> {
    plan: Plan<'a>,
    out: Outcome,
    /// Values that are not written yet.
    bytes: Vec<u8>,
    /// Plain numbers with a decimal mark.
    marked: u64,
    /// The last row's index.
    index: Option<i64>,
    /// Columns of the row at hand, by their place among those taken, that hold true or false, or %.
    truths: Vec<usize>,
    percents: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn new(plan: Plan<'a>, budget: &Budget) -> Self {
        let zeros = vec![0; plan.columns.len()];
        let tally = Tally { truths: zeros.clone(), percents: zeros, ..Tally::default() };
        let faults = Faults::new(plan.layout.names.len());
        let out = Outcome { values: Spool::new(budget), faults, tally, marks: Marks::default(), index_breaks: false };
        Self { plan, out, bytes: Vec::new(), marked: 0, index: None, truths: Vec::new(), percents: Vec::new() }
    }

    fn add(&mut self, row: &Row) -> Result<()> {
        let (columns, count) = (self.plan.layout.names.len(), row.fields.len());
        let is_empty = |mut fields: std::ops::Range<usize>| fields.all(|index| row.fields[index].place.is_empty());
        let fits = count >= columns && count <= columns + self.plan.layout.tail && is_empty(columns..count);
        // Spreadsheets end in such rows. A single empty field in quotes is a hole.
        if count > 1 && row.fields[0].place.is_empty() && is_empty(0..count) {
            let tally = &mut self.out.tally;
            tally.first_empty = if tally.empty_rows == 0 { row.line } else { tally.first_empty };
            tally.empty_rows += 1;
            return Ok(());
        }
        if !fits {
            let place = || Place { line: row.line, column: count, text: row.text(0).into_owned() };
            self.out.faults.add_row(Kind::Width, place);
            return Ok(());
        }
        if self.plan.layout.index == Some(Index::Grows) {
            let index =
                number::plain(row.field(0), b'.').filter(|plain| !plain.is_real).map(|plain| plain.value as i64);
            self.out.index_breaks |= index.is_none() || index <= self.index;
            self.index = index;
        }
        let before = self.bytes.len();
        match self.values(row) {
            None => self.commit(),
            Some((kind, column)) => {
                self.bytes.truncate(before);
                let place = || Place { line: row.line, column, text: row.text(column).into_owned() };
                self.out.faults.add_row(kind, place);
            }
        }
        if self.bytes.len() >= CHUNK {
            self.out.values.write(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Appends the values of a row, unless it has a fault: then the worst, with its column.
    fn values(&mut self, row: &Row) -> Option<(Kind, usize)> {
        let mark = number::mark(self.plan.decimal);
        let mut worst: Option<(Kind, usize)> = None;
        self.truths.clear();
        self.percents.clear();
        for (at, &column) in self.plan.columns.iter().enumerate() {
            let value = match number::plain(row.field(column), mark) {
                Some(plain) if plain.value.is_finite() => {
                    self.marked += u64::from(plain.has_decimals);
                    Ok(plain.value)
                }
                _ => self.look_closely(row, at, column),
            };
            match value {
                Ok(value) => self.bytes.extend_from_slice(&value.to_le_bytes()),
                Err(kind) if worst.is_none_or(|(worst, _)| kind < worst) => worst = Some((kind, column)),
                Err(_) => {}
            }
        }
        worst
    }

    /// Reads a cell that is no plain number.
    fn look_closely(&mut self, row: &Row, at: usize, column: usize) -> Result<f64, Kind> {
        let text = row.text(column);
        let Reading { value, evidence, is_grouped } = number::read(&text, self.plan.decimal);
        if evidence != Evidence::None {
            self.out.marks.add(evidence, row.line, column, &text);
        }
        if is_grouped {
            let tally = &mut self.out.tally;
            if tally.grouped == 0 {
                text.trim().clone_into(&mut tally.first_grouped);
            }
            tally.grouped += 1;
        }
        let value: Result<f64, Kind> = match value {
            Value::Number(value) => Ok(value),
            Value::Truth(value) => {
                self.truths.push(at);
                Ok(f64::from(u8::from(value)))
            }
            Value::Percent(value) => {
                self.percents.push(at);
                Ok(value)
            }
            Value::Hole => Err(Kind::Hole),
            Value::Infinite => Err(Kind::Infinite),
            Value::TooLarge => Err(Kind::TooLarge),
            Value::Text => Err(Kind::Text),
        };
        if let Err(kind) = value {
            self.out.faults.add_cell(kind, row.line, column, &text);
        }
        value
    }

    fn commit(&mut self) {
        let tally = &mut self.out.tally;
        tally.samples += 1;
        self.truths.iter().for_each(|&at| tally.truths[at] += 1);
        self.percents.iter().for_each(|&at| tally.percents[at] += 1);
    }

    fn finish(mut self) -> Result<Outcome> {
        self.out.values.write(&self.bytes)?;
        self.out.marks.add_certain(self.plan.decimal, self.marked);
        Ok(self.out)
    }
}
