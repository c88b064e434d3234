//! What the first rows say of a table: names, columns that are no data, lines that are no samples.

use super::number::{self, Value, trimmed};
use super::sniff::{Marks, marks_of, most_common};
use super::split::{RowKind, Rows, split};
use super::text::{Encoding, decoded};
use crate::data::{Decimal, Header, Separator};
use crate::error::Result;
use crate::files::blob::Blob;

/// Rows that are looked at, and bytes after which no further one is.
const ROWS: usize = 200;
const BYTES: usize = 1 << 20;
/// Lines above the table that are looked through for its header.
const TITLES: usize = 20;
/// Headers in a second and third line: units, levels of an index.
const MORE_HEADERS: usize = 2;

/// A cell of the first rows.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    text: String,
    is_quoted: bool,
    class: Class,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Empty,
    /// A whole number written as one.
    Whole(i64),
    /// Any other number.
    Real(f64),
    /// A word that may stand for a value: for a hole, infinity, true or false.
    Word,
    Text,
}

impl Cell {
    fn is_number(&self) -> bool {
        matches!(self.class, Class::Whole(_) | Class::Real(_))
    }
}

/// The first rows of a table.
pub(super) struct Head {
    rows: Vec<(u64, Vec<Cell>)>,
    /// Comments above the first row.
    comments: Vec<(u64, String)>,
    separator: Option<Separator>,
    /// What their numbers say of the decimal mark.
    pub(super) marks: Marks,
    /// Whether all of it is UTF-8.
    is_utf8: bool,
}

impl Head {
    /// Reads them.
    ///
    /// # Errors
    /// The file cannot be read (any more).
    pub(super) fn read(
        text: &Blob,
        encoding: Encoding,
        separator: Option<Separator>,
        decimal: Option<Decimal>,
    ) -> Result<Self> {
        let mut source = Rows::open(text, encoding, separator)?;
        let (mut rows, mut comments, mut marks, mut bytes) = (Vec::new(), Vec::new(), Marks::default(), 0);
        let mut is_utf8 = true;
        while rows.len() < ROWS && (bytes < BYTES || rows.len() < 3) {
            let Some(row) = source.next()? else { break };
            bytes += row.bytes.len();
            is_utf8 &= std::str::from_utf8(row.bytes).is_ok();
            match row.kind {
                RowKind::Comment if rows.is_empty() => comments.push((row.line, decoded(row.bytes).into_owned())),
                RowKind::Fields => {
                    let fields = row.fields.iter().enumerate();
                    let cells: Vec<(String, bool)> =
                        fields.map(|(at, field)| (trimmed(&row.text(at)).to_owned(), field.is_quoted)).collect();
                    for (column, (text, _)) in cells.iter().enumerate() {
                        marks.add(marks_of(text), row.line, column, text);
                    }
                    rows.push((row.line, cells));
                }
                _ => {}
            }
        }
        let decimal = decimal.or(marks.decimal()).unwrap_or(Decimal::Point);
        let classed = |(text, is_quoted): (String, bool)| Cell { class: class(&text, decimal), text, is_quoted };
        let rows = rows.into_iter().map(|(line, cells)| (line, cells.into_iter().map(classed).collect())).collect();
        Ok(Self { rows, comments, separator, marks, is_utf8 })
    }

    /// Rows from `first` on that have `width` cells.
    fn body(&self, first: usize, width: usize) -> Vec<&[Cell]> {
        let fitting = |(_, cells): &'_ &(u64, Vec<Cell>)| cells.len() == width;
        self.rows.iter().skip(first).filter(fitting).map(|(_, cells)| &cells[..]).collect()
    }
}

fn class(text: &str, decimal: Decimal) -> Class {
    match number::read(text, decimal).value {
        _ if text.is_empty() => Class::Empty,
        Value::Number(_) if let Ok(whole) = text.parse() => Class::Whole(whole),
        Value::Number(value) | Value::Percent(value) => Class::Real(value),
        Value::TooLarge => Class::Real(f64::MAX),
        Value::Text => Class::Text,
        Value::Hole | Value::Infinite | Value::Truth(_) => Class::Word,
    }
}

/// Why the first column is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// It has no name and grows by whole numbers, as pandas writes an index: to be seen of every row.
    Grows,
    /// Names of the rows, as R writes them.
    Names,
}

/// What is known of a table before its rows are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// One for each column, empty where the file has none.
    pub(super) names: Vec<String>,
    pub(super) has_names: bool,
    /// Fields that may follow the columns of a row, if they are empty.
    pub(super) tail: usize,
    /// The line of the first row, header or not.
    pub(super) first_line: u64,
    /// Lines that are no samples.
    pub(super) header_lines: Vec<u64>,
    /// Why the first column is left out.
    pub(super) index: Option<Index>,
    /// What the user should know of that.
    pub(super) notes: Vec<String>,
}

impl Layout {
    /// `3 (age)`, or `3`.
    pub(super) fn label(&self, column: usize) -> String {
        match self.names.get(column) {
            Some(name) if !name.is_empty() => format!("{} ({})", column + 1, short(name)),
            _ => (column + 1).to_string(),
        }
    }

    /// How `--columns` calls it.
    pub(super) fn key(&self, column: usize) -> String {
        let is_only = |name: &String| self.names.iter().filter(|other| *other == name).count() == 1;
        match self.names.get(column) {
            Some(name) if !name.is_empty() && !name.contains([',', ' ']) && is_only(name) => name.clone(),
            _ => (column + 1).to_string(),
        }
    }

    /// Of the first rows of a table.
    pub(super) fn of(head: &Head, wanted: Header) -> Self {
        let Some(width) = most_common(head.rows.iter().map(|(_, cells)| cells.len())) else { return Self::default() };
        let (first, offset) = first_row(head, width);
        let (line, cells) = &head.rows[first];
        let body = head.body(first + 1, width);
        let judgement = judge(cells, &body, offset);
        let comment = comment_header(head, width).filter(|_| wanted != Header::No && judgement != Judgement::Names);
        let is_header = match wanted {
            Header::Yes => comment.is_none(),
            Header::No => false,
            Header::Auto => comment.is_none() && matches!(judgement, Judgement::Names | Judgement::Numbers),
        };
        let has_names = is_header || comment.is_some();
        let mut layout = Self { has_names, first_line: *line, ..Self::default() };
        if !head.is_utf8 {
            layout.notes.push("letters that are no UTF-8 were read as Windows-1252 (Latin-1)".into());
        }
        let mut names: Vec<String> = Vec::new();
        let mut samples = head.body(first, width);
        if let Some((line, found)) = comment {
            layout.notes.push(format!("the comment in line {line} was read as the header: {}", list_names(&found)));
            layout.header_lines.push(line);
            names = found;
        } else if is_header {
            names = vec![String::new(); offset];
            names.extend(cells.iter().map(|cell| cell.text.clone()));
            layout.header_lines.push(*line);
            layout.notes.push(match judgement {
                Judgement::Numbers if wanted == Header::Auto => {
                    let list = list_names(&names);
                    format!("line {line} was read as the header, not as a sample (--header no): {list}")
                }
                _ => format!("line {line} was read as the header: {}", list_names(&names)),
            });
            let more = more_headers(head, first + 1, width);
            for (line, cells) in &head.rows[first + 1..first + 1 + more] {
                layout.header_lines.push(*line);
                let texts: Vec<String> = cells.iter().map(|cell| cell.text.clone()).collect();
                layout.notes.push(format!("line {line} was left out as a further header: {}", list_names(&texts)));
            }
            samples = head.body(first + 1 + more, width);
        } else if judgement == Judgement::Doubt && wanted == Header::Auto {
            let texts: Vec<String> = cells.iter().map(|cell| cell.text.clone()).collect();
            layout
                .notes
                .push(format!("line {line} was read as a sample, not as a header (--header yes): {}", list(&texts)));
        }
        layout.take_columns(names, &samples, width, offset);
        layout
    }

    /// Decides which columns there are, and whether the first one is an index.
    fn take_columns(&mut self, mut names: Vec<String>, samples: &[&[Cell]], width: usize, offset: usize) {
        let is_unnamed = |column: usize| names.get(column).is_none_or(String::is_empty);
        let is_empty = |column: usize| samples.iter().all(|cells| cells[column].class == Class::Empty);
        let tail = (1..width).rev().take_while(|&column| is_unnamed(column) && is_empty(column)).count();
        self.tail = if samples.is_empty() { 0 } else { tail };
        let columns = width - self.tail;
        if self.tail > 0 {
            let what = if self.tail == 1 { "column, which is empty, was" } else { "columns, which are empty, were" };
            self.notes.push(format!("the last {what} left out"));
        }
        names.resize(columns, String::new());
        // Quoted names may go on in the next line.
        for name in names.iter_mut().filter(|name| name.contains(char::is_control)) {
            *name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        let grows = samples.windows(2).all(|pair| match [pair[0][0].class, pair[1][0].class] {
            [Class::Whole(a), Class::Whole(b)] => a < b,
            _ => false,
        });
        let first_is_whole = samples.first().is_some_and(|cells| matches!(cells[0].class, Class::Whole(_)));
        let is_text = !samples.is_empty() && samples.iter().all(|cells| cells[0].class == Class::Text);
        let has_no_name = names[0].is_empty() || names[0].starts_with("Unnamed: 0");
        self.index = match self.has_names && columns > 1 && has_no_name {
            true if offset > 0 || is_text => Some(Index::Names),
            true if grows && first_is_whole => Some(Index::Grows),
            _ => None,
        };
        self.names = names;
        self.note_duplicates();
        let counts = samples.len() > 2 && samples.windows(2).all(|pair| follows(&pair[0][0], &pair[1][0]));
        if self.has_names && self.index.is_none() && counts && columns > 1 {
            let (label, key) = (self.label(0), self.key(0));
            self.notes.push(format!("column {label} counts the rows: --skip-columns {key} leaves it out"));
        } else if self.has_names && has_no_name && self.index.is_none() {
            self.notes.push("column 1 has no name and was taken all the same: --skip-columns 1 leaves it out".into());
        }
    }

    fn note_duplicates(&mut self) {
        let mut sorted: Vec<&String> = self.names.iter().filter(|name| !name.is_empty()).collect();
        sorted.sort_unstable();
        let twice: Vec<String> =
            sorted.chunk_by(|a, b| a == b).filter(|run| run.len() > 1).map(|run| run[0].clone()).collect();
        if !twice.is_empty() {
            self.notes.push(format!("several columns have the name {}: choose them by number", list(&twice)));
        }
    }
}

/// Names for a note, without those that the last columns lack.
fn list_names(names: &[String]) -> String {
    let count = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    let shown = names[..count].iter().map(|name| if name.is_empty() { "(no name)".into() } else { name.clone() });
    list(&shown.collect::<Vec<_>>())
}

/// The first few of them.
pub(super) fn list(texts: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = texts.iter().take(SHOWN).map(|text| short(text)).collect();
    match texts.len() {
        0..=SHOWN => shown.join(", "),
        count => format!("{} ... ({count} in all)", shown.join(", ")),
    }
}

/// Text of the file for one line of a message.
pub(super) fn short(text: &str) -> String {
    const LETTERS: usize = 40;
    let mut line = String::new();
    for letter in text.chars().take(LETTERS) {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    if text.chars().count() > LETTERS { line + "..." } else { line }
}

/// The row that is the header or the first sample, and how many columns without names stand before the header's first.
/// Rows above it are none of the table.
fn first_row(head: &Head, width: usize) -> (usize, usize) {
    for (first, (_, cells)) in head.rows.iter().enumerate().take(TITLES) {
        let count = cells.len();
        let body = head.body(first + 1, width);
        let next_is_header = body.len() > 1 && judge(body[0], &body[1..], 0) == Judgement::Names;
        // Spreadsheets fill up the line of a title with separators.
        let is_title = cells[0].class == Class::Text && cells[1..].iter().all(|cell| cell.class == Class::Empty);
        if count == width && !(is_title && width > 1 && next_is_header) {
            return (first, 0);
        }
        if count > width && cells[width..].iter().all(|cell| cell.class == Class::Empty) && !next_is_header {
            return (first, 0);
        }
        if count + 1 == width && !next_is_header && !body.is_empty() {
            if body.iter().all(|cells| cells[width - 1].class == Class::Empty) {
                return (first, 0);
            }
            let are_names = body.iter().all(|cells| cells[0].class == Class::Text || cells[0].is_quoted);
            let is_whole = matches!(body[0][0].class, Class::Whole(_));
            let counts = is_whole && body.windows(2).all(|pair| follows(&pair[0][0], &pair[1][0]));
            if (are_names || counts) && matches!(judge(cells, &body, 1), Judgement::Names | Judgement::Numbers) {
                return (first, 1);
            }
        }
    }
    let first = head.rows.iter().position(|(_, cells)| cells.len() == width);
    (first.expect("some row has the most common width"), 0)
}

/// Whether one cell counts on from the other.
fn follows(a: &Cell, b: &Cell) -> bool {
    match [a.class, b.class] {
        [Class::Whole(a), Class::Whole(b)] => a.checked_add(1) == Some(b),
        _ => false,
    }
}

/// What a first row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// A header with names.
    Names,
    /// A header whose names are numbers.
    Numbers,
    Sample,
    /// A sample, which could be a header.
    Doubt,
}

/// Judges a row by what stands below; `offset` columns of the rows below stand before its first.
fn judge(cells: &[Cell], body: &[&[Cell]], offset: usize) -> Judgement {
    let below = |column: usize| body.iter().filter_map(move |cells| cells.get(column + offset));
    let is_name = |column: usize| match cells[column].class {
        Class::Text => true,
        // `yes` is a name above numbers, and a value above values of its kind.
        Class::Word if matches!(number::read(&cells[column].text, Decimal::Point).value, Value::Truth(_)) => {
            below(column).count() > 0 && below(column).all(Cell::is_number)
        }
        _ => false,
    };
    let names = (0..cells.len()).filter(|&column| is_name(column)).count();
    let numbers = cells.iter().filter(|cell| cell.is_number()).count();
    let above_numbers = (0..cells.len()).any(|column| {
        let others = below(column).filter(|cell| cell.class != Class::Text).count();
        is_name(column) && (body.is_empty() || others * 2 > below(column).count())
    });
    if names > 0 && (numbers == 0 || (above_numbers && names > numbers)) {
        return Judgement::Names;
    }
    match judge_numbers(cells, body, offset) {
        // Text where text belongs, or a mistake among numbers, which is to be seen.
        Judgement::Doubt if names > 0 => Judgement::Sample,
        judgement => judgement,
    }
}

/// Whether numbers are names: whole ones in a row, above others.
fn judge_numbers(cells: &[Cell], body: &[&[Cell]], offset: usize) -> Judgement {
    let columns: Vec<usize> = (0..cells.len()).filter(|&column| cells[column].is_number()).collect();
    let wholes: Vec<i64> = columns
        .iter()
        .filter_map(|&column| if let Class::Whole(whole) = cells[column].class { Some(whole) } else { None })
        .collect();
    // pandas leaves the name of an index empty.
    let others = cells.iter().skip(1).any(|cell| matches!(cell.class, Class::Empty | Class::Word));
    if wholes.is_empty() || wholes.len() < columns.len() || others || body.is_empty() {
        return Judgement::Sample;
    }
    let below = |column: usize| body.iter().filter_map(move |cells| cells.get(column + offset));
    let is_quoted = columns.iter().all(|&column| cells[column].is_quoted);
    if is_quoted && columns.iter().all(|&column| below(column).all(|cell| !cell.is_quoted)) {
        return Judgement::Numbers;
    }
    let in_order = |wholes: &[i64]| wholes.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    let is_real = |column: &&usize| below(**column).all(|cell| matches!(cell.class, Class::Real(_)));
    let are_real = columns.iter().filter(is_real).count() * 2 >= columns.len();
    let years = 1500..=2200;
    let are_years = wholes.len() > 1 && wholes.iter().all(|year| years.contains(year));
    let is_year = |cell: &&Cell| match cell.class {
        Class::Whole(whole) => years.contains(&whole),
        Class::Real(real) => (1500.0..=2200.0).contains(&real),
        _ => false,
    };
    // Most of them, as any column of some hundreds may have a few.
    let values = || columns.iter().flat_map(|&column| below(column));
    let has_years = values().filter(is_year).count() * 2 > values().count();
    let row_of = |cells: &&[Cell]| -> Vec<i64> {
        let at = |&column: &usize| match cells.get(column + offset)?.class {
            Class::Whole(whole) => Some(whole),
            _ => None,
        };
        columns.iter().filter_map(at).collect()
    };
    let rows: Vec<Vec<i64>> = body.iter().map(row_of).collect();
    // Counting goes on, or every row orders the same numbers.
    let mut sorted = wholes.clone();
    sorted.sort_unstable();
    let goes_on = rows.iter().any(|row| {
        let mut row_sorted = row.clone();
        row_sorted.sort_unstable();
        row.len() == wholes.len() && (in_order(row) || row_sorted == sorted)
    });
    let counts = in_order(&wholes) && matches!(wholes[0], 0 | 1);
    let is_header = match wholes.len() {
        1 => wholes[0] == 0 && are_real,
        2 => counts && are_real,
        3 | 4 => in_order(&wholes) && are_real,
        _ => in_order(&wholes) && (are_real || (counts && body.len() >= 3 && !goes_on)),
    };
    let are_years = are_years && in_order(&wholes);
    let is_header = is_header || (are_years && !has_years);
    match is_header {
        true => Judgement::Numbers,
        false if are_years || are_real || (counts && wholes.len() > 1 && !goes_on) => Judgement::Doubt,
        false => Judgement::Sample,
    }
}

/// Lines below the header that hold text above numbers: units, or levels of an index.
fn more_headers(head: &Head, first: usize, width: usize) -> usize {
    let is_header = |at: usize| {
        let (_, cells) = &head.rows[at];
        let body = head.body(at + 1, width);
        let is_above_numbers = |column: usize| {
            let numbers = body.iter().filter(|cells| cells[column].is_number()).count();
            cells[column].class == Class::Text && numbers * 2 > body.len()
        };
        cells.len() == width && !cells.iter().any(Cell::is_number) && (0..width).any(is_above_numbers)
    };
    (first..head.rows.len()).take(MORE_HEADERS).take_while(|&at| is_header(at)).count()
}

/// The last comment above the table that has a name for each column, as numpy.savetxt writes one: its line and names.
fn comment_header(head: &Head, width: usize) -> Option<(u64, Vec<String>)> {
    let by_sign = [Separator::Comma, Separator::Semicolon, Separator::Tab, Separator::Bar].map(Some);
    let separators: Vec<Option<Separator>> = match head.separator {
        Some(Separator::Blank) => by_sign.into_iter().chain([head.separator]).collect(),
        separator => vec![separator],
    };
    head.comments.iter().rev().find_map(|(line, comment)| {
        let text = super::split::comment(comment.as_bytes())?;
        separators.iter().find_map(|&separator| {
            let mut fields = Vec::new();
            split(text, separator, text.contains(&b'"'), &mut fields);
            let names: Vec<String> =
                fields.iter().map(|field| trimmed(&decoded(&text[field.place.clone()])).to_owned()).collect();
            // A commented row of numbers is none, nor is a sentence above a single column.
            let are_names = names.iter().any(|name| !number::is_numeric(name) && !name.is_empty());
            let is_sentence = width == 1 && names.iter().any(|name| name.contains([' ', ':']));
            (names.len() == width && are_names && !is_sentence).then_some((*line, names))
        })
    })
}
