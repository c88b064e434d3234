//! Finds the separator of a table from its first lines.

use super::number::{self, Evidence, Value, is_numeric};
use super::split::{Field, Quotes, comment, directive, split};
use super::text::{Encoding, Text, decoded};
use crate::data::{Decimal, Separator};
use crate::error::{Error, Result};
use crate::files::blob::Blob;

/// Lines that are looked at, and bytes after which no further one is.
const LINES: usize = 200;
const BYTES: usize = 1 << 20;

/// In the order of preference where two fit equally well: a semicolon is rarely part of a number or of a text, a comma
/// often.
const CANDIDATES: [Option<Separator>; 6] = [
    Some(Separator::Tab),
    Some(Separator::Semicolon),
    Some(Separator::Bar),
    Some(Separator::Comma),
    Some(Separator::Blank),
    None,
];

/// How well a separator fits.
#[derive(Debug, Clone, Copy)]
struct Fit {
    separator: Option<Separator>,
    /// Fields of most lines, and of the first one.
    columns: usize,
    first: usize,
    /// Shares of all cells: those in lines with that many fields that are numbers, and plain ones.
    numbers: f64,
    plain: f64,
    /// Whether most numbers of the first column count the lines.
    counts: bool,
}

/// The separator; none where there is one column.
///
/// # Errors
/// Bad input: two separators fit equally well and give other numbers.
pub(super) fn separator(text: &Blob, encoding: Encoding) -> Result<Option<Separator>> {
    let lines = match first_lines(text, encoding)? {
        Lines::Named(separator) => return Ok(Some(separator)),
        Lines::Found(lines) => lines,
    };
    let fits: Vec<Fit> = CANDIDATES.iter().filter_map(|&separator| fit(&lines, separator)).collect();
    let several = fits.iter().filter(|fit| fit.columns > 1);
    // The first of equals is preferred.
    let Some(&best) = several.clone().reduce(|best, next| if next.numbers > best.numbers + 1e-9 { next } else { best })
    else {
        return Ok(None);
    };
    let refuse = |problem: &str, remedy: &str| Err(Error::input(text.subject(), problem, remedy));
    let is_soft = |fit: &Fit| matches!(fit.separator, Some(Separator::Comma | Separator::Blank));
    let is_one_column = fits.iter().any(|fit| fit.separator.is_none() && fit.numbers > 0.5);
    if is_one_column && is_soft(&best) && best.first + 1 == best.columns && !best.counts {
        // A name, and below it numbers with decimal commas or parted thousands, which a separator would tear apart.
        return Ok(None);
    }
    let fits_header = |fit: &Fit| fit.first == fit.columns;
    let rival = several.clone().find(|fit| fit.separator != best.separator && fit.numbers > best.numbers - 1e-9);
    if let Some(rival) = rival
        && is_soft(&best)
        && is_soft(rival)
        && (best.plain - rival.plain).abs() < 1e-9
        && fits_header(&best) == fits_header(rival)
    {
        let problem = "could be parted by commas or by blanks: both make numbers of it";
        return refuse(problem, "Say --separator comma or blank, or semicolon where it is one column");
    }
    let best = match rival {
        Some(rival) if is_soft(&best) => match [fits_header(&best), fits_header(rival)] {
            [true, false] => best,
            [false, true] => *rival,
            _ if rival.plain > best.plain => *rival,
            _ => best,
        },
        _ => best,
    };
    if best.separator == Some(Separator::Comma) && are_torn_decimals(&lines) {
        let problem = "has commas that part fields and commas that seem to part fractions, as in 0,5,1,5";
        return refuse(problem, "Save it with another separator or with decimal points; --separator comma takes each");
    }
    Ok(best.separator)
}

enum Lines {
    /// By a directive.
    Named(Separator),
    Found(Vec<Vec<u8>>),
}

fn first_lines(text: &Blob, encoding: Encoding) -> Result<Lines> {
    let (mut text, mut lines, mut bytes) = (Text::open(text, encoding)?, Vec::new(), 0);
    while lines.len() < LINES && (bytes < BYTES || lines.len() < 3) {
        let Some(line) = text.line(0)? else { break };
        let content = &text.bytes()[..line.end];
        if let (0, Some(separator)) = (bytes, directive(content)) {
            return Ok(Lines::Named(separator));
        }
        if !content.trim_ascii().is_empty() && comment(content).is_none() {
            lines.push(content.to_vec());
        }
        bytes += line.next;
        text.advance(line.next);
    }
    Ok(Lines::Found(lines))
}

fn fit(lines: &[Vec<u8>], separator: Option<Separator>) -> Option<Fit> {
    let mut fields = Vec::new();
    let rows: Vec<(&[u8], Vec<Field>)> = lines
        .iter()
        .map(|line| {
            let quotes = split(line, separator, line.contains(&b'"'), &mut fields);
            (&line[..], if quotes == Quotes::Closed { fields.clone() } else { Vec::new() })
        })
        .collect();
    let columns = most_common(rows.iter().map(|(_, fields)| fields.len()))?;
    let (mut cells, mut numbers, mut plain) = (0, 0, 0);
    let mut firsts = Vec::new();
    for (line, fields) in &rows {
        // A line that is broken counts as one of the usual kind.
        cells += if fields.len() == columns { columns } else { fields.len().max(columns) };
        if fields.len() != columns {
            continue;
        }
        for (column, field) in fields.iter().enumerate() {
            let bytes = &line[field.place.clone()];
            let is_plain = number::plain(bytes, b'.').is_some();
            plain += usize::from(is_plain);
            // Two tabs in a row are a hole in a table by tabs, and no more than one in a table by blanks.
            let is_hole = bytes.is_empty() && separator == Some(Separator::Tab);
            numbers += usize::from(is_plain || is_hole || is_numeric(&decoded(bytes)));
            if column == 0 {
                firsts.push(number::plain(bytes, b'.').map(|plain| plain.value));
            }
        }
    }
    let share = |count: usize| count as f64 / cells.max(1) as f64;
    let steps = firsts.windows(2).filter(|pair| matches!(pair, [Some(a), Some(b)] if a + 1.0 == *b)).count();
    let counts = firsts.len() > 1 && steps + 1 == firsts.len();
    let first = rows.first().map_or(0, |(_, fields)| fields.len());
    Some(Fit { separator, columns, first, numbers: share(numbers), plain: share(plain), counts })
}

/// The most common count; the greatest of equals.
pub(super) fn most_common(counts: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts: Vec<usize> = counts.filter(|&count| count > 0).collect();
    counts.sort_unstable();
    counts.chunk_by(|a, b| a == b).max_by_key(|run| run.len()).map(|run| run[0])
}

/// Whether commas seem to part fractions as well as fields: whole numbers alone, no sign in any second column, and `-0`
/// or leading zeros, which whole numbers do not have.
fn are_torn_decimals(lines: &[Vec<u8>]) -> bool {
    let mut is_torn = false;
    let (mut rows, mut names) = (0, 0);
    for line in lines {
        let cells: Vec<&[u8]> = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
        let is_whole = |cell: &&[u8]| {
            let digits = cell.strip_prefix(b"-").unwrap_or(cell);
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        };
        if !cells.iter().all(is_whole) {
            // A header may stand above, with a name for two pieces.
            names = cells.len();
            if rows == 0 { continue } else { return false }
        }
        rows += 1;
        let (pairs, rest) = cells.as_chunks::<2>();
        let has_zeros = |cell: &[u8]| cell.len() > 1 && cell[0] == b'0';
        if names == cells.len()
            || !rest.is_empty()
            || pairs.iter().any(|[whole, part]| part[0] == b'-' || has_zeros(whole))
        {
            return false;
        }
        is_torn |= names == pairs.len() || pairs.iter().any(|[whole, part]| *whole == b"-0" || has_zeros(part));
    }
    is_torn
}

/// What the marks of all numbers say together.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    points: u64,
    commas: u64,
    /// Of `1,234` and `1.234`: how many, and line, column and text of the first.
    either_commas: u64,
    pub(super) either_points: u64,
    pub(super) first_comma: Option<(u64, usize, String)>,
}

impl Marks {
    /// Counts plain numbers with that mark.
    pub(super) fn add_certain(&mut self, decimal: Decimal, count: u64) {
        match decimal {
            Decimal::Point => self.points += count,
            Decimal::Comma => self.commas += count,
        }
    }

    /// Counts a number.
    pub(super) fn add(&mut self, evidence: Evidence, line: u64, column: usize, text: &str) {
        match evidence {
            Evidence::None => {}
            Evidence::Only(Decimal::Point) => self.points += 1,
            Evidence::Only(Decimal::Comma) => self.commas += 1,
            Evidence::Either(Decimal::Point) => self.either_points += 1,
            Evidence::Either(Decimal::Comma) => {
                self.either_commas += 1;
                self.first_comma.get_or_insert_with(|| (line, column, text.to_owned()));
            }
        }
    }

    /// Whether some number has a decimal mark for certain.
    pub(super) fn are_certain(&self) -> bool {
        self.points + self.commas > 0
    }

    /// The decimal mark that most numbers ask for; None where `1,234` is all that there is.
    pub(super) fn decimal(&self) -> Option<Decimal> {
        match (self.points, self.commas) {
            (0, 0) if self.either_commas > 0 => None,
            (points, commas) if commas > points => Some(Decimal::Comma),
            _ => Some(Decimal::Point),
        }
    }
}

/// Whether a cell counts as evidence of a table of numbers.
pub(super) fn marks_of(text: &str) -> Evidence {
    let reading = number::read(text, Decimal::Point);
    if matches!(reading.value, Value::Hole | Value::Infinite) { Evidence::None } else { reading.evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniff(text: &str) -> Result<Option<Separator>> {
        separator(&Blob::from_bytes("x.csv", text.as_bytes().to_vec()), Encoding::Bytes(0))
    }

    #[test]
    fn the_separator_is_the_one_that_makes_numbers() {
        use Separator::{Bar, Blank, Comma, Semicolon, Tab};
        for (text, expected) in [
            ("a,b\n1,2\n3,4", Some(Comma)),
            ("a;b\n0,5;1,5\n-0,5;2,5", Some(Semicolon)),
            ("a;b\n0.5;1\n0.25;2", Some(Semicolon)),
            ("a\tb\n0,5\t1\n0,25\t2", Some(Tab)),
            ("1\t\t3\n2\t5\t6\n2\t\t6", Some(Tab)),
            ("a\tb\tc\n1\t\t3\n2\t\t6", Some(Tab)),
            ("x\n1 234,5\n2 345,6", None),
            ("x,y\n1 234,5\n2 345,6", Some(Comma)),
            ("x,y\n5 kg,2\n6 kg,3", Some(Comma)),
            ("x,y\n-0,2\n3,4", Some(Comma)),
            ("1.5\t\t3\n2\t\t6", Some(Tab)),
            ("1|2\n3|4", Some(Bar)),
            ("1.5 2.5\n 3   4", Some(Blank)),
            ("1.5\t2.5\n3\t4", Some(Tab)),
            ("1,5 2,5 3,5\n1,5 2,25 3,75", Some(Blank)),
            ("1.5, 2.5\n3, 4", Some(Comma)),
            ("5\n6.5\n7", None),
            ("a\n5\n6.5\n7", None),
            ("x\n0,1257\n-0,1321\n1,5", None),
            ("x\n1 500\n2 700\n12 100", None),
            ("x\n1 500\n2 700\n3 100", Some(Blank)),
            ("Smith A;0,5\nJones B;1,5", Some(Semicolon)),
            ("\"x;y\",1,2\nz;t,3,4\nu;v,3,4", Some(Comma)),
            ("2024-01-01 12:00:00,0.5\n2024-01-02 12:00:00,0.7", Some(Comma)),
            ("My table of things\na,b\n1,2\n3,4", Some(Comma)),
            ("sep=;\n1,5;2\n", Some(Semicolon)),
            ("# a b c d\n1,2\n3,4", Some(Comma)),
            ("1,2\n3,4\n5,6", Some(Comma)),
            ("", None),
        ] {
            assert_eq!(sniff(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "1 234,5\n2 345,6\n",
            "0,5\n-0,25\n3,75",
            "0,1257,-0,1321\n-0,5,0,3",
            "1,05,2,5\n3,5,4,25",
            "a,b\n3,5,1,5\n1,25,2,5",
        ] {
            let error = sniff(text).expect_err(text);
            assert!(error.to_string().contains("--separator"), "{error}");
        }
    }
}
