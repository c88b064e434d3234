//! Comma-separated tables: one sample a row.

use std::path::Path;

use super::{SampleShape, Samples, refuse_empty};
use crate::arrays::Number;
use crate::blob::{Blob, Budget, Spool};
use crate::error::{Error, Result};

/// Reads a table of numbers, as it is or gzipped. A first row without any number is a header.
pub(super) fn read(path: &Path, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    // What counts is the numbers.
    parse(&Blob::open(path, &mut budget.clone())?, budget)
}

fn parse(text: &Blob, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    let subject = text.subject();
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.reader());
    let (mut columns, mut bytes, mut values) = (None, Vec::new(), Spool::new(budget));
    for (row, record) in reader.records().enumerate() {
        let record =
            record.map_err(|error| Error::input(subject, error.to_string(), "Save the table as UTF-8 text"))?;
        let is_header = row == 0 && record.iter().all(|field| field.parse::<f32>().is_err());
        let line = record.position().map_or(0, csv::Position::line);
        let expected = *columns.get_or_insert(record.len());
        if record.len() != expected {
            let problem = format!("line {line} has {} columns, the first has {expected}", record.len());
            return Err(Error::input(subject, problem, "Give every row the same number of columns"));
        }
        if !is_header {
            for (column, field) in record.iter().enumerate() {
                let value = number(field).map_err(|problem| {
                    let place = format!("line {line}, column {} {problem}", column + 1);
                    Error::input(subject, place, "Fill it with a finite number, or leave the row out")
                })?;
                bytes.extend(value.to_le_bytes());
            }
            values.write(&bytes)?;
            bytes.clear();
        }
    }
    let values = values.finish(subject, budget);
    refuse_empty(values.len(), subject)?;
    let dimensions = columns.expect("there was a row");
    Ok((SampleShape::Vector { dimensions }, Samples::from_numbers(dimensions, Number::Single, values, 1)))
}

fn number(field: &str) -> Result<f32, String> {
    match field.parse::<f32>() {
        _ if field.is_empty() => Err("is empty".into()),
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("holds `{field}`, which is not finite in float32")),
        Err(_) => Err(format!("holds `{field}`, which is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8], mib: u64) -> Result<(SampleShape, Samples)> {
        super::parse(&Blob::from_bytes("x.csv", text.to_vec()), &mut Budget::of_mib(mib))
    }

    #[test]
    fn a_header_is_skipped_and_spaces_do_not_matter() {
        for text in ["a,b,c\n1, 2 ,3\n4,5e0,-6\n", "1,2,3\r\n4,5,-6", "\n\n1,2,3\n\n4,5,-6\n\n"] {
            for mib in [0, 1] {
                let (shape, samples) = parse(text.as_bytes(), mib).expect(text);
                assert_eq!((shape.dimensions(), samples.len()), (3, 2));
                let mut second = [0.0; 3];
                samples.write_sample(1, &mut second).expect("there");
                assert_eq!(second, [4.0, 5.0, -6.0]);
            }
        }
    }

    #[test]
    fn holes_and_text_are_named_by_line_and_column() {
        for (text, expected) in [
            ("a,b\n1,2\n3,\n", "line 3, column 2 is empty"),
            ("1,,3\n4,5,6\n", "line 1, column 2 is empty"),
            ("1,2\n3,four\n", "line 2, column 2 holds `four`"),
            ("1,2\n3,nan\n", "line 2, column 2 holds `nan`"),
            ("1,2\n1e99,3\n", "line 2, column 1 holds `1e99`"),
            ("1,2\n3\n", "line 2 has 1 columns, the first has 2"),
            ("a,b\n1,2,3\n", "line 2 has 3 columns, the first has 2"),
            ("a,b\n", "holds no values"),
            ("", "holds no values"),
        ] {
            let error = parse(text.as_bytes(), 1).expect_err(text);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
        let error = parse(b"1,2\n3,\xff\n", 1).expect_err("no text");
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }
}
