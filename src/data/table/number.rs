//! What stands in a cell: a number as people and programs write it, a hole, or something else.

use std::borrow::Cow;

use crate::data::Decimal;

/// Powers of ten that float64 holds exactly.
const EXACT_TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// A number of plain signs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plain {
    pub(super) value: f64,
    /// Whether it has the mark, or an exponent: programs write whole columns of floats so.
    pub(super) is_real: bool,
    /// Whether its mark cannot part thousands.
    pub(super) has_decimals: bool,
}

/// Reads `-12.5e-3`, with `mark` before the fraction and d for e as Fortran has it; None for everything else.
pub(super) fn plain(text: &[u8], mark: u8) -> Option<Plain> {
    let unsigned = match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    };
    let (mut at, mut mantissa) = (0, 0u64);
    let mut digits = |at: &mut usize| {
        let from = *at;
        while let Some(digit) = unsigned.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            *at += 1;
        }
        *at - from
    };
    let (whole, mut fraction) = (digits(&mut at), 0);
    let has_mark = unsigned.get(at) == Some(&mark);
    if has_mark {
        at += 1;
        fraction = digits(&mut at);
    }
    let exponent = exponent(&unsigned[at..])?;
    if whole + fraction == 0 {
        return None;
    }
    let parts_thousands = fraction == 3 && (1..=3).contains(&whole) && unsigned[0] != b'0' && exponent.is_none();
    let scale = exponent.unwrap_or(0).saturating_sub(fraction as i64);
    // Both factors are exact, so the result is rounded once, as it must be.
    let is_exact = whole + fraction <= 18 && mantissa <= 1 << 53 && scale.unsigned_abs() <= 22;
    let size = match EXACT_TENS.get(scale.unsigned_abs() as usize) {
        Some(power) if is_exact && scale < 0 => mantissa as f64 / power,
        Some(power) if is_exact => mantissa as f64 * power,
        _ => by_library(unsigned, mark)?,
    };
    let value = if text[0] == b'-' { -size } else { size };
    Some(Plain { value, is_real: has_mark || exponent.is_some(), has_decimals: has_mark && !parts_thousands })
}

/// What follows the digits: nothing (None inside), or an exponent.
fn exponent(rest: &[u8]) -> Option<Option<i64>> {
    let [b'e' | b'E' | b'd' | b'D', signed @ ..] = rest else { return rest.is_empty().then_some(None) };
    let (sign, digits) = match signed {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let size = |digits: &[u8]| digits.iter().fold(0i64, |n, d| (n * 10 + i64::from(d - b'0')).min(100_000));
    is_number.then(|| Some(sign * size(digits)))
}

fn by_library(unsigned: &[u8], mark: u8) -> Option<f64> {
    let usual = |byte: u8| match byte {
        b'd' | b'D' => b'e',
        byte if byte == mark => b'.',
        byte => byte,
    };
    let is_usual = mark == b'.' && !unsigned.iter().any(|byte| matches!(byte, b'd' | b'D'));
    let text: Cow<[u8]> = match is_usual {
        true => Cow::Borrowed(unsigned),
        false => Cow::Owned(unsigned.iter().map(|&byte| usual(byte)).collect()),
    };
    std::str::from_utf8(&text).ok()?.parse().ok()
}

/// The sign that stands before the fraction.
pub(super) fn mark(decimal: Decimal) -> u8 {
    match decimal {
        Decimal::Point => b'.',
        Decimal::Comma => b',',
    }
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Number(f64),
    /// True or yes, false or no.
    Truth(bool),
    /// A number with % behind it, in per cent.
    Percent(f64),
    /// Nothing, or one of the words for it.
    Hole,
    /// `inf`, of either sign.
    Infinite,
    /// A number beyond what a float64 holds.
    TooLarge,
    Text,
}

/// What a number of a cell says of the decimal mark of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// There is no mark, or no number.
    None,
    /// Only this mark makes a number of it.
    Only(Decimal),
    /// As `1,234`: a fraction after this mark, or thousands parted by it.
    Either(Decimal),
}

/// A cell that was looked at closely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) value: Value,
    pub(super) evidence: Evidence,
    /// Whether thousands are parted.
    pub(super) is_grouped: bool,
}

impl Reading {
    fn of(value: Value) -> Self {
        Self { value, evidence: Evidence::None, is_grouped: false }
    }

    /// Whether it stands for a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(self.value, Value::Number(_) | Value::Percent(_))
    }
}

/// Reads the text of a cell; other marks than `decimal` may only part thousands.
pub(super) fn read(cell: &str, decimal: Decimal) -> Reading {
    let text = trimmed(cell);
    if is_hole(text) {
        return Reading::of(Value::Hole);
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" => return Reading::of(Value::Truth(true)),
        "false" | "no" => return Reading::of(Value::Truth(false)),
        "inf" | "+inf" | "-inf" | "infinity" | "+infinity" | "-infinity" | "∞" | "+∞" | "-∞" | "−∞" | "1.#inf"
        | "-1.#inf" => return Reading::of(Value::Infinite),
        _ => {}
    }
    let (text, is_percent) = match text.strip_suffix('%') {
        Some(number) => (trimmed(number), true),
        None => (text, false),
    };
    let (is_negative, unsigned) = match text.strip_prefix(is_minus) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // The minus of typesetters stands in exponents, too.
    let unsigned: Cow<str> = match unsigned.contains('\u{2212}') {
        true => unsigned.replace('\u{2212}', "-").into(),
        false => unsigned.into(),
    };
    let [point, comma] = [Decimal::Point, Decimal::Comma].map(|decimal| ungrouped(&unsigned, decimal));
    let has_mark = unsigned.contains(['.', ',']);
    let evidence = match (&point, &comma) {
        (Some(_), Some(_)) if has_mark => {
            Evidence::Either(if unsigned.contains(',') { Decimal::Comma } else { Decimal::Point })
        }
        (Some(_), None) => Evidence::Only(Decimal::Point),
        (None, Some(_)) => Evidence::Only(Decimal::Comma),
        _ => Evidence::None,
    };
    let value = match if decimal == Decimal::Point { &point } else { &comma } {
        None => return Reading { value: Value::Text, evidence, is_grouped: false },
        Some((size, _)) if !size.is_finite() => Value::TooLarge,
        Some((size, _)) if is_percent => Value::Percent(if is_negative { -size } else { *size }),
        Some((size, _)) => Value::Number(if is_negative { -size } else { *size }),
    };
    let is_grouped = if decimal == Decimal::Point { &point } else { &comma }.is_some_and(|(_, grouped)| grouped);
    Reading { value, evidence, is_grouped }
}

/// Whether it reads as a number by either mark.
pub(super) fn is_numeric(cell: &str) -> bool {
    let by = |decimal| !matches!(read(cell, decimal).value, Value::Text | Value::Hole);
    by(Decimal::Point) || by(Decimal::Comma)
}

/// Without blanks of any kind at the ends, and without the mark of byte order that joined files have inside.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '\u{feff}' | '\u{200b}'))
}

/// The minus of typesetters, and the en dash that word processors make of a hyphen.
pub(super) fn is_minus(letter: char) -> bool {
    matches!(letter, '-' | '\u{2212}' | '\u{2013}')
}

/// The words that stand for a missing value in R, pandas, SQL and Excel, its errors among them.
fn is_hole(text: &str) -> bool {
    const WORDS: [&str; 30] = [
        "", "na", "n/a", "nan", "+nan", "-nan", "null", "none", "nil", "?", "-", "--", ".", "..", "–", "—", "<na>",
        "nat", "\\n", "missing", "#n/a", "#na", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "1.#ind",
        "-1.#ind",
    ];
    // Numbers, by far the most of all cells, begin with a digit and are spared the list.
    let may_be = text.len() <= 8 && !matches!(text.as_bytes(), [b'0' | b'2'..=b'9', ..]);
    may_be && WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// A number without sign whose thousands may be parted by blanks, apostrophes or the other mark: its value, and
/// whether they are. All groups must be whole: `12,34` parts nothing.
fn ungrouped(text: &str, decimal: Decimal) -> Option<(f64, bool)> {
    let mark = char::from(mark(decimal));
    if text.is_ascii()
        && !text.starts_with(['+', '-'])
        && let Some(plain) = plain(text.as_bytes(), mark as u8)
    {
        return Some((plain.value, false));
    }
    let (whole, fraction) = text.split_at(text.find(mark).unwrap_or(text.len()));
    let parts = |letter: char| match letter {
        ',' | '.' => letter != mark,
        ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '\'' | '\u{2019}' => true,
        _ => false,
    };
    let parting = whole.chars().find(|&letter| parts(letter))?;
    let groups: Vec<&str> = whole.split(parting).collect();
    let (first, rest) = groups.split_first().expect("there is a parting sign");
    let are_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_first = (1..=3).contains(&first.len()) && are_digits(first) && !first.starts_with('0');
    if !is_first || !rest.iter().all(|group| group.len() == 3 && are_digits(group)) {
        return None;
    }
    let digits = fraction.strip_prefix(mark).unwrap_or_default();
    let number = are_digits(digits).then(|| format!("{}.{digits}", groups.concat()))?;
    Some((number.parse().ok()?, true))
}

/// What the text of a cell that is no number seems to be.
pub(super) fn describe(cell: &str, decimal: Decimal) -> &'static str {
    let text = trimmed(cell);
    let other = if decimal == Decimal::Point { Decimal::Comma } else { Decimal::Point };
    let is_digit = |letter: char| letter.is_ascii_digit();
    let day = text.split(['T', ' ']).next().unwrap_or(text);
    let is_day = ['-', '/', '.'].iter().any(|&sign| {
        let parts: Vec<_> = day.split(sign).collect();
        parts.len() == 3 && parts.iter().all(|part| (1..=4).contains(&part.len()) && part.chars().all(is_digit))
    });
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let lower = text.to_lowercase();
    let has_month = months.iter().any(|month| lower.contains(month)) && text.contains(is_digit);
    match text {
        _ if text.contains(['\n', '\r']) => "a quoted text that goes on in the next line",
        _ if is_day || has_month => "a date",
        _ if read(text, other).is_number() && other == Decimal::Comma => "where numbers have decimal points",
        _ if read(text, other).is_number() => "where numbers have decimal commas",
        _ if text.contains(['$', '€', '£', '¥', '₹', '₽', '₩']) => "an amount of money",
        _ if text.contains(':') && text.starts_with(is_digit) => "a time",
        _ if text.starts_with("0x") => "a hexadecimal number",
        _ if text.starts_with(['(', '[']) && text.contains(is_digit) => "no plain number",
        _ if text.starts_with(is_digit) && text.ends_with(char::is_alphabetic) => "no number, or one with a unit",
        _ => "which is no number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_have_the_bits_of_the_standard_library() {
        let mut texts: Vec<String> = ["0", "-0", "5.", ".5", "+.5", "1e5", "1E+5", "1e-5", "9007199254740993", "1e22"]
            .iter()
            .chain(&["123456789012345678", "1e23", "1.257000000000000062e-01", "2.2250738585072014e-308", "4.9e-324"])
            .chain(&["1e99", "00012.50", "179769313486231570000e288", "0.1e-400", "12345678901234567890123"])
            .map(ToString::to_string)
            .collect();
        texts.extend((1..4000u64).map(|n| {
            let bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{}.{}e{}", bits >> (n % 64), n * n, n as i64 % 60 - 30)
        }));
        for text in &texts {
            let expected: f64 = text.parse().expect("a number");
            for sign in ["", "-"].iter().take(1 + usize::from(!text.starts_with(['+', '-']))) {
                let found = plain(format!("{sign}{text}").as_bytes(), b'.').expect(text).value;
                let expected = if sign.is_empty() { expected } else { -expected };
                assert_eq!(found.to_bits(), expected.to_bits(), "{sign}{text}");
            }
            let [by_comma, fortran] = [(".", ","), ("e", "D")].map(|(from, to)| text.replace(from, to));
            assert_eq!(plain(by_comma.as_bytes(), b',').map(|plain| plain.value), Some(expected), "{by_comma}");
            assert_eq!(plain(fortran.as_bytes(), b'.').map(|plain| plain.value), Some(expected), "{fortran}");
        }
        for text in ["", ".", "-", "e5", "1e", "1e+", "--1", "1.2.3", "0x10", "1_000", "nan", "inf", "1 ", "1,5", "1f"]
        {
            assert_eq!(plain(text.as_bytes(), b'.'), None, "{text}");
        }
    }

    #[test]
    fn thousands_signs_and_words_are_read_as_they_are_meant() {
        use Decimal::{Comma, Point};
        use Value::{Hole, Infinite, Number, Percent, Text, TooLarge, Truth};
        for (text, decimal, value) in [
            ("1,234.5", Point, Number(1234.5)),
            ("1,234,567", Point, Number(1_234_567.0)),
            ("1.234,5", Comma, Number(1234.5)),
            ("1 234,5", Comma, Number(1234.5)),
            ("1\u{a0}234\u{a0}567", Point, Number(1_234_567.0)),
            ("-1\u{202f}234.25", Point, Number(-1234.25)),
            ("1'234", Point, Number(1234.0)),
            ("0,1257", Comma, Number(0.1257)),
            ("1.234", Comma, Number(1234.0)),
            ("\u{2212}0.5", Point, Number(-0.5)),
            ("1e\u{2212}2", Point, Number(0.01)),
            ("\u{2013}3", Point, Number(-3.0)),
            ("\u{a0} 7\u{feff}", Point, Number(7.0)),
            ("12 %", Point, Percent(12.0)),
            ("-1,5%", Comma, Percent(-1.5)),
            ("True", Point, Truth(true)),
            ("no", Point, Truth(false)),
            ("1e400", Point, TooLarge),
            ("-Infinity", Point, Infinite),
            ("#N/A", Point, Hole),
            ("NaN", Point, Hole),
            ("", Point, Hole),
            ("-999", Point, Number(-999.0)),
            ("0,5", Point, Text),
            ("0.5", Comma, Text),
            ("12,34.5", Point, Text),
            ("0,123.5", Point, Text),
            ("1,234 567", Point, Text),
            ("12 34", Point, Text),
            ("1234,567.0", Point, Text),
            ("--5", Point, Text),
            ("(5)", Point, Text),
            ("$5", Point, Text),
            ("%", Point, Text),
            ("1,23,456", Point, Text),
            ("01.02.2024", Comma, Text),
            ("1\u{a0}\u{a0}234", Point, Text),
        ] {
            assert_eq!(read(text, decimal).value, value, "{text}");
        }
    }

    #[test]
    fn marks_tell_what_they_can_mean() {
        use Decimal::{Comma, Point};
        use Evidence::{Either, None, Only};
        for (text, evidence) in [
            ("5", None),
            ("1 234", None),
            ("0,5", Only(Comma)),
            ("0.5", Only(Point)),
            ("12.3456", Only(Point)),
            ("1,234", Either(Comma)),
            ("1.234", Either(Point)),
            ("1,234.5", Only(Point)),
            ("1.234,5", Only(Comma)),
            ("1,234,567", Only(Point)),
            ("0,123", Only(Comma)),
            ("1.234e5", Only(Point)),
            ("a.b", None),
        ] {
            assert_eq!(read(text, Point).evidence, evidence, "{text}");
            let by_plain = plain(text.as_bytes(), b'.').is_some_and(|plain| plain.has_decimals);
            assert!(!by_plain || evidence == Only(Point), "{text}");
        }
    }

    #[test]
    fn other_text_is_called_by_its_kind() {
        for (text, kind) in [
            ("2024-01-01", "a date"),
            ("2024-01-01T10:00:00Z", "a date"),
            ("1/2/24", "a date"),
            ("3 Mar 2024", "a date"),
            ("12:30", "a time"),
            ("€ 5", "an amount of money"),
            ("5 kg", "no number, or one with a unit"),
            ("0,5", "where numbers have decimal points"),
            ("Total", "which is no number"),
            ("1\n2", "a quoted text that goes on in the next line"),
        ] {
            assert_eq!(describe(text, Decimal::Point), kind, "{text}");
        }
    }
}
