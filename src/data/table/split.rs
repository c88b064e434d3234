//! Rows of fields: separators, quotes, and the lines that belong to no row.

use std::borrow::Cow;
use std::ops::Range;

use super::number::trimmed;
use super::text::{Encoding, Text, decoded};
use crate::data::Separator;
use crate::error::Result;
use crate::files::blob::Blob;

/// A quoted field that goes on for longer was never closed.
const MAX_QUOTED_LINES: u64 = 100;

/// A field's place in its row, without quotes and blanks around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) place: Range<usize>,
    pub(super) is_quoted: bool,
}

/// How the quotes of a row end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Each is closed.
    Closed,
    /// The last one goes on in the next line.
    Open,
    /// Something follows a closing quote that is no separator.
    Broken,
}

/// The byte of a separator; none for blanks and for a table of one column.
pub(super) fn sign(separator: Option<Separator>) -> Option<u8> {
    match separator? {
        Separator::Comma => Some(b','),
        Separator::Semicolon => Some(b';'),
        Separator::Tab => Some(b'\t'),
        Separator::Bar => Some(b'|'),
        Separator::Blank => None,
    }
}

/// Splits a row; without a separator it is one field.
pub(super) fn split(row: &[u8], separator: Option<Separator>, has_quotes: bool, fields: &mut Vec<Field>) -> Quotes {
    fields.clear();
    match (has_quotes, sign(separator)) {
        (false, Some(sign)) => {
            let mut start = 0;
            for end in memchr::memchr_iter(sign, row).chain([row.len()]) {
                fields.push(bare(row, start..end));
                start = end + 1;
            }
            Quotes::Closed
        }
        (_, sign) => split_quoted(row, sign, separator == Some(Separator::Blank), fields),
    }
}

fn bare(row: &[u8], place: Range<usize>) -> Field {
    let field = &row[place.clone()];
    let before = field.iter().take_while(|byte| is_blank(**byte)).count();
    let after = field[before..].iter().rev().take_while(|byte| is_blank(**byte)).count();
    Field { place: place.start + before..place.end - after, is_quoted: false }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn split_quoted(row: &[u8], sign: Option<u8>, by_blanks: bool, fields: &mut Vec<Field>) -> Quotes {
    let ends_field = |byte: u8| if by_blanks { is_blank(byte) } else { Some(byte) == sign };
    let skip_blanks = |mut at: usize| {
        while at < row.len() && is_blank(row[at]) && (by_blanks || !ends_field(row[at])) {
            at += 1;
        }
        at
    };
    let mut at = 0;
    loop {
        let start = skip_blanks(at);
        if by_blanks && start == row.len() {
            return Quotes::Closed;
        }
        if row.get(start) == Some(&b'"') {
            let Some(end) = closing(row, start + 1) else {
                fields.push(Field { place: start + 1..row.len(), is_quoted: true });
                return Quotes::Open;
            };
            fields.push(Field { place: start + 1..end, is_quoted: true });
            let follows = if by_blanks { end + 1 } else { skip_blanks(end + 1) };
            if follows < row.len() && !ends_field(row[follows]) {
                return Quotes::Broken;
            }
            at = follows;
        } else {
            let end = row[start..].iter().position(|&byte| ends_field(byte)).map_or(row.len(), |count| start + count);
            fields.push(bare(row, start..end));
            at = end;
        }
        if at == row.len() {
            return Quotes::Closed;
        }
        at += 1;
    }
}

/// Where the quote that was opened before `from` is closed; two in a row are one that is meant.
fn closing(row: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'"', &row[at..])?;
        if row.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// A row of the table, or a line of comment.
pub(super) struct Row<'a> {
    /// The line that it starts in, from 1.
    pub(super) line: u64,
    pub(super) bytes: &'a [u8],
    pub(super) fields: &'a [Field],
    pub(super) kind: RowKind,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    /// Fields.
    Fields,
    /// Nothing, or blanks.
    Blank,
    /// A comment.
    Comment,
    /// A quote opens in it that is never closed, or not before a separator.
    BrokenQuote,
    /// `sep=;`, by which Excel is told the separator.
    Directive,
}

impl Row<'_> {
    /// The bytes of a field.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        &self.bytes[self.fields[index].place.clone()]
    }

    /// The text of a field.
    pub(super) fn text(&self, index: usize) -> Cow<'_, str> {
        let text = decoded(self.field(index));
        match self.fields[index].is_quoted && text.contains("\"\"") {
            true => Cow::Owned(text.replace("\"\"", "\"")),
            false => text,
        }
    }
}

/// The text behind the sign of a comment: `#`, `%` or `//` at the start of a line. The errors of Excel are none.
pub(super) fn comment(line: &[u8]) -> Option<&[u8]> {
    let text = line.trim_ascii_start();
    let behind = match text {
        [b'#' | b'%', rest @ ..] | [b'/', b'/', rest @ ..] => rest,
        _ => return None,
    };
    let is_error = ["#N/A", "#NA", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"]
        .iter()
        .any(|error| text.len() >= error.len() && text[..error.len()].eq_ignore_ascii_case(error.as_bytes()));
    let repeated = behind.iter().take_while(|&&byte| byte == text[0]).count();
    (!is_error).then(|| behind[repeated..].trim_ascii())
}

/// The separator that a line `sep=;` names.
pub(super) fn directive(line: &[u8]) -> Option<Separator> {
    let text = decoded(line);
    match trimmed(&text).trim_matches('"').to_ascii_lowercase().as_str() {
        "sep=" => (text.contains("=\t")).then_some(Separator::Tab),
        "sep=," => Some(Separator::Comma),
        "sep=;" => Some(Separator::Semicolon),
        "sep=|" => Some(Separator::Bar),
        _ => None,
    }
}

/// The rows of a text, one after another.
pub(super) struct Rows {
    text: Text,
    separator: Option<Separator>,
    fields: Vec<Field>,
    /// Bytes of the row that was given last.
    given: usize,
    /// The next line's number.
    line: u64,
}

impl Rows {
    /// From the first line.
    ///
    /// # Errors
    /// The file cannot be read (any more).
    pub(super) fn open(text: &Blob, encoding: Encoding, separator: Option<Separator>) -> Result<Self> {
        Ok(Self { text: Text::open(text, encoding)?, separator, fields: Vec::new(), given: 0, line: 1 })
    }

    /// The next one. A quoted field may go on over lines.
    ///
    /// # Errors
    /// The file cannot be read (any more), or a line is too long.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>> {
        self.text.advance(self.given);
        let Some(first) = self.text.line(0)? else { return Ok(None) };
        let line = self.line;
        let (mut end, mut lines) = ((first.end, first.next), 1);
        let kind = kind_of(&self.text.bytes()[..first.end], line);
        let kind = if kind == RowKind::Fields {
            let quotes = loop {
                let has_quotes = first.has_quotes;
                match split(&self.text.bytes()[..end.0], self.separator, has_quotes, &mut self.fields) {
                    Quotes::Open if lines < MAX_QUOTED_LINES => match self.text.line(end.1)? {
                        Some(next) => (end, lines) = ((next.end, next.next), lines + 1),
                        None => break Quotes::Open,
                    },
                    quotes => break quotes,
                }
            };
            if quotes == Quotes::Closed {
                RowKind::Fields
            } else {
                // What follows the line may be fine.
                (end, lines) = ((first.end, first.next), 1);
                RowKind::BrokenQuote
            }
        } else {
            kind
        };
        if kind != RowKind::Fields {
            self.fields.clear();
        }
        self.given = end.1;
        self.line += lines;
        Ok(Some(Row { line, bytes: &self.text.bytes()[..end.0], fields: &self.fields, kind }))
    }
}

fn kind_of(line: &[u8], number: u64) -> RowKind {
    // DOS ended texts by a sign of their own.
    match line.iter().find(|byte| !is_blank(**byte) && **byte != 0x1a) {
        None => RowKind::Blank,
        Some(b'#' | b'%' | b'/') if comment(line).is_some() => RowKind::Comment,
        Some(b's' | b'S' | b'"') if number == 1 && directive(line).is_some() => RowKind::Directive,
        Some(_) => RowKind::Fields,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, separator: Option<Separator>) -> Vec<(u64, RowKind, Vec<String>)> {
        let blob = Blob::from_bytes("x.csv", text.as_bytes().to_vec());
        let mut rows = Rows::open(&blob, Encoding::Bytes(0), separator).expect("opened");
        let mut all = Vec::new();
        while let Some(row) = rows.next().expect("read") {
            let texts = (0..row.fields.len()).map(|index| row.text(index).into_owned()).collect();
            all.push((row.line, row.kind, texts));
        }
        all
    }

    #[test]
    fn fields_are_parted_by_signs_blanks_or_not_at_all() {
        for (text, separator, expected) in [
            ("1, 2 ,\t3", Some(Separator::Comma), vec!["1", "2", "3"]),
            ("1,2,", Some(Separator::Comma), vec!["1", "2", ""]),
            ("1\t\t3", Some(Separator::Tab), vec!["1", "", "3"]),
            ("\"1\"\t\t\"3\"", Some(Separator::Tab), vec!["1", "", "3"]),
            ("  1.5   2\t 3  ", Some(Separator::Blank), vec!["1.5", "2", "3"]),
            ("\"a b\" 2", Some(Separator::Blank), vec!["a b", "2"]),
            ("1 2,3", None, vec!["1 2,3"]),
            ("\"a,b\", \"c\"\"d\" ,5\" pipe", Some(Separator::Comma), vec!["a,b", "c\"d", "5\" pipe"]),
            ("\"\",2", Some(Separator::Comma), vec!["", "2"]),
            ("\"\"\"\"", None, vec!["\""]),
        ] {
            assert_eq!(rows(text, separator)[0].2, expected, "{text}");
        }
    }

    #[test]
    fn a_quoted_field_may_go_on_and_one_that_never_closes_spoils_its_line_alone() {
        let comma = Some(Separator::Comma);
        let texts =
            |rows: &[(u64, RowKind, Vec<String>)]| rows.iter().map(|row| (row.0, row.2.join("|"))).collect::<Vec<_>>();
        let fine = rows("\"a\nb\",c\n1,2\n", comma);
        assert_eq!(texts(&fine), [(1, "a\nb|c".into()), (3, "1|2".into())]);
        for text in ["1,2\n\"3,4\n5,6", "1,2\n\"3,4\n5,6\n\"7\",8", "1,2\n\"3\"4,5\n5,6"] {
            let rows = rows(text, comma);
            assert_eq!((rows[1].0, rows[1].1), (2, RowKind::BrokenQuote), "{text}");
            assert_eq!((rows[2].0, &rows[2].2[..]), (3, &["5".to_string(), "6".into()][..]), "{text}");
        }
    }

    #[test]
    fn comments_blanks_and_directives_are_no_rows() {
        let kinds: Vec<_> = rows("sep=;\n# a\n\u{1a}\n  % b\n//c\n#N/A;2\nsep=;\n \t\n/;1", Some(Separator::Semicolon))
            .into_iter()
            .map(|row| row.1)
            .collect();
        use RowKind::{Blank, Comment, Directive, Fields};
        assert_eq!(kinds, [Directive, Comment, Blank, Comment, Comment, Fields, Fields, Blank, Fields]);
        assert_eq!(comment(b" ## a, b"), Some(&b"a, b"[..]));
    }
}
