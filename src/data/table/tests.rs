//! Tables as people have them, each kind by what it must give.

use std::path::PathBuf;

use super::*;
use crate::data::Samples;

/// Columns' names, rows, notes.
type Read = (Vec<String>, Vec<Vec<f32>>, String);

fn rows(samples: &Samples) -> Vec<Vec<f32>> {
    let row = |index| {
        let mut row = vec![0.0; samples.dimensions()];
        samples.write_sample(index, &mut row).expect("there");
        row
    };
    (0..samples.len()).map(row).collect()
}

fn of(text: &[u8], config: &DataConfig) -> Result<Read> {
    let by_memory = [1, 0].map(|mib| {
        let table = super::parse(&Blob::from_bytes("x.csv", text.to_vec()), config, &mut Budget::of_mib(mib))?;
        Ok((table.names, rows(&table.samples), table.notes.join("; ")))
    });
    let [in_memory, on_disk]: [Result<Read>; 2] = by_memory;
    if let (Ok(in_memory), Ok(on_disk)) = (&in_memory, on_disk) {
        assert_eq!(*in_memory, on_disk);
    }
    in_memory
}

fn plain(text: &str) -> Read {
    of(text.as_bytes(), &DataConfig::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn with(text: &str, config: &DataConfig) -> Read {
    of(text.as_bytes(), config).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal_of(text: &[u8], config: &DataConfig) -> String {
    let error = of(text, config).map(|read| format!("{read:?}")).expect_err(&String::from_utf8_lossy(text));
    assert_eq!(error.exit_status(), 2, "{error}");
    let line = error.to_string();
    assert!(!line.contains('\n') && line.starts_with("x.csv: ") || line.starts_with("--"), "{line}");
    line
}

fn refusal(text: &str) -> String {
    refusal_of(text.as_bytes(), &DataConfig::default())
}

fn keys(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(ToString::to_string).collect())
}

fn skip() -> DataConfig {
    DataConfig { broken: Broken::Skip, ..Default::default() }
}

#[test]
fn plain_tables_of_every_separator_give_their_numbers() {
    for text in [
        "a,b,c\n1,2,3.5\n4,5e0,-6\n",
        "a, b ,c\r\n1, 2 ,3.5\r\n4,5,-6",
        "a;b;c\r1;2;3,5\r4;5;-6",
        "a\tb\tc\n1\t2\t3.5\n4\t5\t-6",
        "a|b|c\n1|2|3.5\n4|5|-6",
        "  a b   c\n  1 2 3.5\n  4 5 -6  \n",
        "\n\na,b,c\n\n1,2,3.5\n\n4,5,-6\n\n",
        "\"a\",\"b\",\"c\"\n\"1\",\"2\",\"3.5\"\n\"4\",\"5\",\"-6\"\n",
        "# a,b,c\n1,2,3.5\n4,5,-6\n",
        "# a title\n#\n# a b c\n1 2 3.5\n4 5 -6\n",
        "sep=;\na;b;c\n1;2;3.5\n4;5;-6\n",
        "a,b,c\n1,2,3.5\n# nothing\n4,5,-6\n",
        "a,b,c,\n1,2,3.5,\n4,5,-6,\n",
        "a,b,c\n1,2,3.5,\n4,5,-6,\n",
        "a,b,c,,\n1,2,3.5,,\n4,5,-6,,\n,,,,\n",
        ",a,b,c\n0,1,2,3.5\n1,4,5,-6\n",
        "Unnamed: 0,a,b,c\n7,1,2,3.5\n12,4,5,-6\n",
        "\"a\" \"b\" \"c\"\n\"1\" 1 2 3.5\n\"2\" 4 5 -6\n",
        "a b c\nMazda 1 2 3.5\nFiat 4 5 -6\n",
        "\"\",\"a\",\"b\",\"c\"\n\"x\",1,2,3.5\n\"y\",4,5,-6\n",
        "a,b,c\nkg,cm,\n1,2,3.5\n4,5,-6\n",
        "a,b,c\n1d0,+2,3.5\n4.,.5D+1,\u{2212}6\n",
        "a,b,c\n1,\u{a0}2,3.5\n4,5\u{2009},-6\n",
        "\u{feff}a,b,c\n1,2,3.5\n4,5,-6\n",
    ] {
        let (names, rows, _) = plain(text);
        assert_eq!(names, ["a", "b", "c"], "{text}");
        assert_eq!(rows, [[1.0, 2.0, 3.5], [4.0, 5.0, -6.0]], "{text}");
    }
}

#[test]
fn what_was_decided_is_told() {
    for (text, expected) in [
        ("a,b\n1,2\n3,4", "line 1 was read as the header: a, b"),
        ("# a,b\n1,2\n3,4", "the comment in line 1 was read as the header: a, b"),
        ("0,1\n0.5,0.25\n0.1,0.3", "(--header no): 0, 1"),
        ("400,402\n0.5,0.25\n0.1,0.3", "line 1 was read as a sample, not as a header (--header yes): 400, 402"),
        ("a,b\nkg,cm\n1,2\n3,4", "line 2 was left out as a further header: kg, cm"),
        (",a\n0,2\n1,4", "column 1, an index, was left out"),
        ("a b\nx 1 2\ny 3 4", "column 1, names of the rows, was left out"),
        ("a,b,\n1,2,\n3,4,", "the last column, which is empty, was left out"),
        ("a;b\n1;2\n3;4", "parted by semicolons"),
        ("1 2\n3 4", "parted by blanks"),
        ("a;b\n0,5;2\n3;4", "decimal commas"),
        ("a,b\n\"1,234\",0.5\n3,4", "numbers with parted thousands: 1, as `1,234`"),
        ("a,b\nTrue,2\nFalse,4", "false (no) in column 1 (a) were read as 1 and 0"),
        ("a,b\n12 %,2\n3%,4", "column 1 (a) is in per cent"),
        ("3,5\n4,7", "not as decimal commas (--separator semicolon)"),
        ("\"a\n(kg)\",b\n1,2\n3,4", "was read as the header: a\\n(kg), b"),
        ("a\n1\n\n3", "1 blank line was left out (line 3)"),
        ("a,b\n1,2\n,\n3,4", "1 empty row was left out (line 3)"),
        ("a,b\n1,2\n%x\n#y\n3,4", "2 lines of comment were left out"),
        (",a\n5,2\n3,4", "column 1 has no name and was taken all the same"),
        ("a,a\n1,2\n3,4", "several columns have the name a"),
    ] {
        let notes = plain(text).2;
        assert!(notes.contains(expected), "{text}: {notes}");
        assert_eq!(plain(text).1.len(), if expected.contains("402") { 3 } else { 2 }, "{text}");
    }
    assert!(plain("id,a\n7,2\n8,4\n9,4").2.contains("column 1 (id) counts the rows: --skip-columns id"));
    let latin = of(b"gr\xf6\xdfe,b\n1,2\n3,4", &DataConfig::default()).expect("read").2;
    assert!(latin.contains("Windows-1252"), "{latin}");
    assert_eq!(plain("1.5,2\n3,4").2, "");
}

#[test]
fn a_header_of_numbers_is_one_where_the_rest_is_otherwise() {
    for (text, names) in [
        ("0,1,2\n0.5,0.25,1.5\n0.1,0.3,2.0", Some(["0", "1", "2"])),
        ("1990,1991,1992\n5,7,9\n4,4,4", Some(["1990", "1991", "1992"])),
        ("1990,1991,1992\n1990,1995,1999\n1980,1985,1992", None),
        (",0,1,2\n0,0.5,0.25,1.5\n1,0.1,0.3,2.0", Some(["0", "1", "2"])),
        ("\"3\",\"9\",\"5\"\n1,2,3\n4,5,6", Some(["3", "9", "5"])),
        ("nan,inf,x\n0.1,0.2,0.3\n0.4,0.5,0.6", Some(["nan", "inf", "x"])),
        ("1,2,3\n4,5,6\n7,8,9", None),
        ("1,2,3\n3,1,2\n2,3,1", None),
        ("1,0,1\n0,0,1\n1,1,1", None),
        ("0.5,1,2\n0.5,0.25,1.5\n0.1,0.3,2.0", None),
    ] {
        let (found, rows, notes) = plain(text);
        assert_eq!(found, names.unwrap_or(["1", "2", "3"]), "{text}: {notes}");
        assert_eq!(rows.len(), if names.is_some() { 2 } else { 3 }, "{text}");
        let no = DataConfig { header: Some(Header::No), ..Default::default() };
        let yes = DataConfig { header: Some(Header::Yes), ..Default::default() };
        if !text.starts_with([',', 'n']) {
            assert_eq!(with(text, &no).1.len(), 3, "{text}");
            assert_eq!(with(text, &yes).1.len(), 2, "{text}");
        }
    }
    assert_eq!(plain("0\n0.5\n0.25").0, ["0"]);
}

#[test]
fn an_index_is_left_out_only_where_all_of_it_is_one() {
    let many = |break_at: usize| {
        let index = |row: usize| if row == break_at { 0 } else { row };
        (0..500).fold(",a,b\n".to_owned(), |text, row| format!("{text}{},{row}.5,2.5\n", index(row)))
    };
    let (names, rows, _) = plain(&many(0));
    assert_eq!((names, rows.len()), (vec!["a".to_owned(), "b".into()], 500));
    let (names, rows, notes) = plain(&many(400));
    assert_eq!((names, rows.len()), (vec!["1".to_owned(), "a".into(), "b".into()], 500), "{notes}");
    let asked = DataConfig { columns: keys(&["1", "b"]), ..Default::default() };
    assert_eq!(with(&many(0), &asked).1[7], [7.0, 2.5]);
}

#[test]
fn decimal_marks_are_found_from_all_numbers() {
    let far = |last: &str| (0..300).fold("a;b\n".to_owned(), |text, row| format!("{text}{row};1\n")) + last;
    for (text, last) in [
        ("a,b\n\"1,304\",\"0,5\"\n\"2,5\",\"7\"".to_owned(), [2.5, 7.0]),
        ("a,b\n\"1,304\",0.5\n\"2,500\",7".into(), [2500.0, 7.0]),
        ("a;b\n1.304,5;1\n1.500;2".into(), [1500.0, 2.0]),
        ("a;b\n1 304,5;1\n1 500;2".into(), [1500.0, 2.0]),
        ("a;b\n1'304.5;1\n1\u{2019}500;2".into(), [1500.0, 2.0]),
        ("a;b\n1\u{a0}304;1\n1\u{202f}500;2".into(), [1500.0, 2.0]),
        ("x;y\n1,5 %;1\n2,5 %;2".into(), [2.5, 2.0]),
        (far("0,5;2"), [0.5, 2.0]),
        (far("0.5;2"), [0.5, 2.0]),
        (far("1,234;2\n0,5;2"), [0.5, 2.0]),
        (far("0.5;1\n1,234;2"), [1234.0, 2.0]),
    ] {
        assert_eq!(plain(&text).1.last().expect("rows")[..], last, "{text}");
    }
    assert_eq!(plain("x\n0,1257\n-0,1321\n1,5").1, [[0.1257], [-0.1321], [1.5]]);
    for text in ["a;b\n1,234;5\n2,345;6", "a,b\n\"1,234\",5\n\"2,345\",6", &far("1,234;2")] {
        assert!(refusal(text).contains("--decimal comma or --decimal point"), "{}", refusal(text));
        let [comma, point] = [Decimal::Comma, Decimal::Point].map(|decimal| {
            let config = DataConfig { decimal: Some(decimal), ..Default::default() };
            with(text, &config).1.last().expect("rows")[0]
        });
        assert!((comma * 1000.0 - point).abs() < 1e-3, "{comma} {point}");
    }
    assert!(plain("a;b\n1.234;5\n2.345;6").2.contains("--decimal comma"));
}

#[test]
fn faults_are_named_by_line_column_and_remedy() {
    for (text, expected) in [
        ("a,b\n1,2\n3,\n5,6\n", &["a hole: line 3, column 2 (b) is empty", "--broken skip", "--skip-columns b"][..]),
        ("1.5,,3\n4,5,6\n,NA,7\n", &["3 holes: 2 in column 2, 1 in column 1", "line 1, column 2 is empty", "2 of 3"]),
        ("a,b\n1,2\n3,nan\n", &["line 3, column 2 (b) holds `nan`, a hole"]),
        ("a,b\n1,?\n3,NULL\n", &["No row is whole", "--skip-columns b"]),
        ("a,b\n1,2\n3,-inf\n", &["line 3, column 2 (b) holds `-inf`, which is not finite", "--broken skip"]),
        ("1,2.5\n1e999,3\n", &["line 2, column 1 holds `1e999`, which is beyond float64"]),
        ("a,b\n1,2\n1e999,3\n", &["line 3, column 1 (a) holds `1e999`"]),
        ("day,b\n2024-01-01,2\n2024-01-02,4\n", &["column 1 (day)", "line 2, a date", "--skip-columns day"]),
        ("a,b\n1,2\n3,four\n5,6\n", &["line 3, column 2 (b) holds `four`", "--broken skip"]),
        ("a,b\n€ 5,2\n€ 6,4\n", &["an amount of money", "--skip-columns a"]),
        ("a,b\n1,2\n3\n", &["line 3 has 1 field, `3`, where the table has 2", "--broken skip"]),
        ("a,b\n1,2\n3,4,5\n6,7\n", &["line 3 has 3 fields, where the table has 2"]),
        ("My data,\nof today,\na,b\n1,2\n3,4\n5,6\n7,8\n", &["line 1, column 1 (a) holds `My data`", "--broken skip"]),
        ("My data\na,b\n1,2\n3,4\n", &["line 1 has 1 field, `My data`", "--broken skip"]),
        ("a,b\n1,2\n3,4\nTotal,\n", &["line 4, column 1 (a) holds `Total`"]),
        ("a;b\n1;2\n3;4\nTotal;\n", &["line 4, column 1 (a) holds `Total`"]),
        ("a,b\n1,2\n\"3,4\n5,6\n", &["line 3 opens a quote", "--broken skip"]),
        ("a,b\n1,2\n\"3\n3\",4\n5,6\n", &["line 3, column 1 (a)", "goes on in the next line"]),
        ("a,b\n12%,2\n0.3,4\n", &["column 1 (a) has % in 1 of 2 rows"]),
        ("a;b\n0,5;2\n0,5;3\n0,5;4\n0.5;5\n", &["line 5, column 1 (a) holds `0.5`, where numbers have decimal commas"]),
        ("a,b\n0.5,2\n\"0,5\",3\n1.5,3\n", &["line 3, column 1 (a) holds `0,5`, where numbers have decimal points"]),
        ("a,b\n1,2\na,b\n3,4\n", &["line 3, column 1 (a) holds `a`"]),
        ("a,b,c\n1,2,3\n#N/A,5,6\n", &["line 3, column 1 (a) holds `#N/A`, a hole"]),
        ("x,0.5,0.6\n1.5,2,3\n4,5,6\n", &["line 1, column 1 holds `x`", "--header yes"]),
        ("a,b\n0.5,2,3\n4.5,5,6\n", &["line 1 has 2 fields, where the table has 3"]),
        ("a,b,c\n", &["holds no values: a header alone (a, b, c)"]),
        ("# nothing\n\n", &["holds no values"]),
        ("", &["holds no values"]),
        ("<html>", &["is HTML"]),
        ("0,5\n-0,25\n3,75\n", &["--separator"]),
    ] {
        let line = refusal(text);
        assert!(expected.iter().all(|expected| line.contains(expected)), "{line}");
    }
}

#[test]
fn broken_rows_are_left_out_on_demand_and_counted() {
    for (text, expected) in [
        ("My data\na,b\n1,2\n3,4\n", "1 of 3 rows left out: 1 with another number of fields; the first: line 1"),
        ("a,b\n1,2\n,7\n3,4\n", "1 of 3 rows left out: 1 with holes; the first: line 3, column 1 (a) is empty"),
        ("a,b\n1,2\n3,4\nTotal,\n", "1 with text; the first: line 4, column 1 (a) holds `Total`"),
        ("a,b\n1,2\n\"5,6\n3,4\n7,inf\n", "2 of 4 rows left out: 1 with an unclosed quote, 1 with infinite"),
    ] {
        let (names, rows, notes) = with(text, &skip());
        assert!(notes.contains(expected), "{notes}");
        assert_eq!((names, rows), (vec!["a".into(), "b".into()], vec![vec![1.0, 2.0], vec![3.0, 4.0]]), "{text}");
    }
    assert!(refusal_of(b"a,b\nx,1\ny,2\n", &skip()).contains("--skip-columns a"));
}

#[test]
fn columns_are_taken_by_name_or_number_in_the_order_of_the_list() {
    let text = "day,x,y,x\n2024-01-01,1,2,3\n2024-01-02,4,5,6\n";
    let columns = |columns: &[&str]| DataConfig { columns: keys(columns), ..Default::default() };
    let without = |columns: &[&str]| DataConfig { skip_columns: keys(columns), ..Default::default() };
    for (config, names, second) in [
        (columns(&["y", "2"]), &["y", "x"][..], &[5.0, 4.0][..]),
        (columns(&["4"]), &["x"], &[6.0]),
        (without(&["day", "4"]), &["x", "y"], &[4.0, 5.0]),
        (DataConfig { columns: keys(&["1", "3"]), ..without(&["day"]) }, &["y"], &[5.0]),
    ] {
        let (found, rows, _) = with(text, &config);
        assert_eq!((&found.iter().map(String::as_str).collect::<Vec<_>>()[..], &rows[1][..]), (names, second));
    }
    for (config, expected) in [
        (
            columns(&["dya"]),
            "--columns: `dya` is no column of x.csv, which has 1 (day), 2 (x), 3 (y), 4 (x). Did you mean `day`?",
        ),
        (columns(&["x"]), "--columns: `x` is the name of columns 2 and 4"),
        (columns(&["y", "3"]), "--columns: names column 3 (y) twice"),
        (columns(&["0"]), "--columns: `0` is no column"),
        (columns(&[""]), "Give a number from 1 to 4"),
        (columns(&[]), "no column is left"),
        (without(&["1", "2", "3", "4"]), "no column is left"),
    ] {
        let line = refusal_of(text.as_bytes(), &config);
        assert!(line.contains(expected), "{line}");
    }
    let (_, rows, notes) =
        with("2,1\n0.5,0.25\n0.75,0.5", &DataConfig { header: Some(Header::Yes), ..columns(&["1"]) });
    assert_eq!(rows, [[0.25], [0.5]], "names go before numbers");
    assert!(notes.contains("--columns 1 was taken as the name of column 2"), "{notes}");
}

#[test]
fn separators_may_be_named() {
    let by = |separator| DataConfig { separator: Some(separator), ..Default::default() };
    assert_eq!(with("0,5\n-0,25\n3,75\n", &by(Separator::Comma)).1, [[0.0, 5.0], [0.0, 25.0], [3.0, 75.0]]);
    assert_eq!(with("0,5\n-0,25\n3,75\n", &by(Separator::Semicolon)).1, [[0.5], [-0.25], [3.75]]);
    assert_eq!(with("1 234,5\n2 345,6", &by(Separator::Blank)).1[0], [1.0, 234.5]);
    let toml =
        "[data]\nspec = \"csv:x\"\nseparator = \"\\t\"\ncolumns = [\"a\"]\nheader = \"no\"\ndecimal = \"comma\"\n";
    let config = crate::config::Config::from_toml(toml, "x").expect("known keys").data;
    assert_eq!((config.separator, config.header), (Some(Separator::Tab), Some(Header::No)));
}

#[test]
fn encodings_are_found_and_numbers_keep_their_bits() {
    let text = "größe,b\n\u{2212}1,5\n2,0.1\n";
    let utf16 = |encode: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(encode).collect::<Vec<u8>>();
    let latin: Vec<u8> = text.chars().map(|letter| if letter == '\u{2212}' { b'-' } else { letter as u8 }).collect();
    for bytes in [text.as_bytes().to_vec(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes), latin] {
        let (names, rows, _) = of(&bytes, &DataConfig::default()).expect("read");
        assert_eq!((names[0].as_str(), rows), ("größe", vec![vec![-1.0, 5.0], vec![2.0, 0.1]]));
    }
    let table = super::parse(
        &Blob::from_bytes("x.csv", b"100000000.25 1\n0.1 2\n".to_vec()),
        &DataConfig::default(),
        &mut Budget::of_mib(1),
    );
    assert_eq!(table.expect("read").samples.dimensions(), 2);
}

/// A folder of tables beside the checkout, or None, aloud.
fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ARCSM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = root.join(name);
    if folder.exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("ARCSM_REQUIRE_SHARED").is_none_or(|v| v != "1"), "{} is missing", folder.display());
    println!("SKIPPED: {} is missing", folder.display());
    None
}

/// The first row, the number of columns and of rows of the tables in the trials that are read.
const TRIALS: [(&str, usize, &[f32]); 20] = [
    ("bom-header.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("bools.csv", 60, &[1.0, -0.1321, 0.6404]),
    ("comment-hash-header.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("cr-only.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("decimal-comma.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("named-nan-header.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("nbsp.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("onecol-blank.csv", 60, &[0.1257]),
    ("packed.csv.gz", 60, &[0.1257, -0.1321, 0.6404]),
    ("pandas-index.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("percent.csv", 60, &[0.0, -0.1321, 0.6404]),
    ("plus-dot.csv", 60, &[1.5, 0.5, 5.0]),
    ("quoted.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("savetxt-default.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("semicolon.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("thousands.csv", 60, &[1000.0, -0.1321, 0.6404]),
    ("trailing-comma.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("unicode-minus.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("utf16.csv", 60, &[0.1257, -0.1321, 0.6404]),
    ("../tables/numeric-header.csv", 3, &[0.5, 0.25]),
];

/// What those that are not read are told.
const REFUSED: [(&str, &[&str]); 8] = [
    ("dates.csv", &["column 1 (day)", "2024-01-01", "a date", "--skip-columns day"]),
    ("footer.csv", &["line 62, column 1 (a) holds `Total`", "--broken skip"]),
    ("header-only.csv", &["a header alone (a, b, c)"]),
    ("html.csv", &["is HTML"]),
    ("inf.csv", &["line 12, column 2 (b) holds `inf`", "--broken skip"]),
    ("jsonl.csv", &["is JSON"]),
    ("missing.csv", &["line 12, column 2 (b) is empty", "--broken skip"]),
    ("unclosed-quote.csv", &["line 5 opens a quote"]),
];

#[test]
fn tables_as_people_save_them_are_read_or_refused_with_a_remedy() {
    let Some(folder) = shared("trials/csv") else { return };
    let read = |name: &str, config: &DataConfig| super::read(&folder.join(name), config, &mut Budget::of_mib(8));
    for (name, count, first) in TRIALS {
        let table = read(name, &DataConfig::default()).unwrap_or_else(|error| panic!("{error}"));
        println!("{name}: {:?} {}", table.names, table.notes.join("; "));
        let rows = rows(&table.samples);
        assert_eq!((rows.len(), &rows[0][..]), (count, first), "{name}");
        assert!(rows.iter().all(|row| row.len() == table.names.len()), "{name}");
        let named = !matches!(name, "packed.csv.gz" | "savetxt-default.csv") && table.names[0] != "1";
        assert_eq!(table.notes.iter().any(|note| note.contains("header")), named, "{name}: {:?}", table.notes);
    }
    for (name, expected) in REFUSED {
        let line = read(name, &DataConfig::default()).map(|table| table.notes).expect_err(name).to_string();
        println!("{line}");
        assert!(expected.iter().all(|expected| line.contains(expected)), "{line}");
        let mended = match name {
            "dates.csv" => DataConfig { skip_columns: keys(&["day"]), ..Default::default() },
            "footer.csv" | "inf.csv" | "missing.csv" | "unclosed-quote.csv" => skip(),
            _ => continue,
        };
        assert_eq!(read(name, &mended).expect(name).samples.len(), 60, "{name}");
    }
    let known: Vec<&str> = TRIALS.iter().map(|trial| trial.0).chain(REFUSED.iter().map(|trial| trial.0)).collect();
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(known.contains(&name.as_str()), "{name} is not tried");
    }
}

#[test]
fn real_tables_are_read_whole() {
    let Some(folder) = shared("data/tables") else { return };
    for (name, rows, columns) in [
        ("wine_red", 1599, 11),
        ("wine_white", 4898, 11),
        ("parkinsons", 5875, 15),
        ("magic_gamma", 19_020, 11),
        ("htru2", 17_898, 9),
        ("ionosphere", 351, 32),
    ] {
        let path = folder.join(format!("{name}.csv.gz"));
        let table = super::read(&path, &DataConfig::default(), &mut Budget::of_mib(64)).expect(name);
        assert_eq!((table.samples.len(), table.names.len(), table.notes.len()), (rows, columns, 1), "{name}");
        assert!(table.notes[0].starts_with("line 1 was read as the header: "), "{:?}", table.notes);
    }
}
