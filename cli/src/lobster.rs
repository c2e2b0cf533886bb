//! Reads LOBSTER message files, plain or gzipped, and says exactly where and why one cannot be
//! read.
//!
//! A file is read and checked as a whole before anything starts. Lines are split here and not by a
//! CSV library: the format has no quoting, and the line numbers in error messages must also be
//! right after blank lines and CRLF.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::iter::repeat;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use flate2::bufread::GzDecoder;

use crate::market::{Kind, Message, Side};

/// No row comes near this length; a file without line ends is refused before it fills the memory.
const LONGEST_LINE: u64 = 1024;
const COLUMNS: [&str; 6] = ["time", "type", "order id", "shares", "price", "direction"];
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The messages of a file, in the order of its rows.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) messages: Vec<Message>,
    /// How many rows have an earlier time than the row before.
    pub(crate) times_back: u64,
    /// The last of them.
    pub(crate) last_back: Option<TimeBack>,
}

/// A row whose time is earlier than that of the row before; displays as a warning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeBack {
    line: u64,
    from_ns: u64,
    to_ns: u64,
}

/// Reads all messages of the file at `path`, or of standard input if that is `-`.
///
/// What begins as gzip does is read as that, whatever its name, and so is a file whose name ends in `.gz`.
pub(crate) fn read(path: &Path) -> Result<Input, ReadError> {
    let at = |mistake| ReadError {
        path: path.to_owned(),
        mistake,
    };
    let source: Box<dyn Read> = if is_standard_input(path) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|cause| at(Mistake::Open(cause)))?)
    };
    let is_called_gzip = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let (is_gzip, input) = starts_with(BufReader::with_capacity(1 << 16, source), GZIP)
        .map_err(|cause| at(Mistake::Open(cause)))?;
    let input = if is_called_gzip || is_gzip {
        parse(BufReader::with_capacity(1 << 16, Members::of(input)))
    } else {
        parse(input)
    };
    input.map_err(at)
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn shown(path: &Path) -> impl fmt::Display {
    if is_standard_input(path) {
        "standard input".into()
    } else {
        path.to_string_lossy()
    }
}

/// Whether an input starts with these bytes, and all of it.
fn starts_with<const N: usize>(
    mut input: impl BufRead,
    bytes: [u8; N],
) -> io::Result<(bool, impl BufRead)> {
    let mut start = Vec::new();
    input.by_ref().take(N as u64).read_to_end(&mut start)?;
    Ok((start == bytes, io::Cursor::new(start).chain(input)))
}

/// What is in the members of a gzip file, one after the other; zeroes behind one, as tapes are filled up with, are none.
struct Members<R> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn of(file: R) -> Self {
        let member = Some(GzDecoder::new(file));
        Self { member }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let mut file = self.member.take().map(GzDecoder::into_inner);
            if let Some(file) = &mut file
                && skip_zeroes(file)?
            {
                break;
            }
            self.member = file.map(GzDecoder::new);
        }
        Ok(0)
    }
}

/// Whether there is nothing but zeroes left.
fn skip_zeroes(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = input.fill_buf()?;
        let zeroes = bytes.iter().take_while(|&&byte| byte == 0).count();
        if bytes.is_empty() || zeroes < bytes.len() {
            let is_end = bytes.is_empty();
            input.consume(zeroes);
            return Ok(is_end);
        }
        input.consume(zeroes);
    }
}

impl TimeBack {
    /// What there is to say of it if it is the last of so many.
    pub(crate) fn warning(&self, path: &Path, of: u64) -> String {
        let seconds = |ns: u64| format!("{}.{:09}", ns / NANOS_PER_SECOND, ns % NANOS_PER_SECOND);
        let which = match of {
            1 => String::new(),
            of => format!(" (the last of {of} rows that do)"),
        };
        format!(
            "{}: line {}, column 1: the time goes back from {} to {}{which}: rows are replayed as they stand",
            shown(path),
            self.line,
            seconds(self.from_ns),
            seconds(self.to_ns),
        )
    }
}

/// Why a file could not be read; displays as file, line, column and what was expected.
#[derive(Debug)]
pub(crate) struct ReadError {
    path: PathBuf,
    mistake: Mistake,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(&self.path);
        match &self.mistake {
            Mistake::Open(cause) => write!(f, "{path}: expected a file that can be read: {cause}"),
            Mistake::Empty => write!(
                f,
                "{path}: the file is empty: expected rows of 6 columns ({})",
                COLUMNS.join(", ")
            ),
            Mistake::Cell { line, wrong } => {
                let Wrong { column, problem } = wrong;
                write!(f, "{path}: line {line}, column {column}: {problem}")
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// What is wrong with a file. Lines count from 1.
#[derive(Debug)]
enum Mistake {
    Open(io::Error),
    Empty,
    Cell { line: u64, wrong: Wrong },
}

/// What is wrong with a line. Columns count from 1, and are fields, not characters.
#[derive(Debug)]
struct Wrong {
    column: usize,
    problem: String,
}

fn parse(mut input: impl BufRead) -> Result<Input, Mistake> {
    let mut messages: Vec<Message> = Vec::new();
    let (mut times_back, mut last_back) = (0, None);
    let mut row = Vec::new();
    for line in 1.. {
        let at = |wrong| Mistake::Cell { line, wrong };
        if !read_row(&mut input, &mut row).map_err(at)? {
            break;
        }
        if line == 1 && row.starts_with(BYTE_ORDER_MARK) {
            row.drain(..BYTE_ORDER_MARK.len());
        }
        if row.is_empty() {
            continue;
        }
        let message = parse_row(&row).map_err(at)?;
        let to_ns = message.time_ns;
        if let Some(from_ns) = messages.last().map(|before| before.time_ns)
            && to_ns < from_ns
        {
            times_back += 1;
            last_back = Some(TimeBack {
                line,
                from_ns,
                to_ns,
            });
        }
        messages.push(message);
    }
    if messages.is_empty() {
        return Err(Mistake::Empty);
    }
    Ok(Input {
        messages,
        times_back,
        last_back,
    })
}

/// Reads a line without its end into `row`; false at the end of the file.
fn read_row(input: impl BufRead, row: &mut Vec<u8>) -> Result<bool, Wrong> {
    row.clear();
    let read = input.take(LONGEST_LINE).read_until(b'\n', row);
    let problem = match read {
        Ok(0) => return Ok(false),
        Ok(_) if row.ends_with(b"\n") => {
            row.pop();
            if row.ends_with(b"\r") {
                row.pop();
            }
            return Ok(true);
        }
        Ok(length) if (length as u64) < LONGEST_LINE => return Ok(true),
        Ok(_) => format!("expected a row shorter than {LONGEST_LINE} bytes"),
        Err(cause) => format!("expected a file that is whole and can be read: {cause}"),
    };
    Err(Wrong {
        column: column_at(row, row.len()),
        problem,
    })
}

fn parse_row(bytes: &[u8]) -> Result<Message, Wrong> {
    let row = str::from_utf8(bytes).map_err(|error| {
        let wrong = error.valid_up_to();
        Wrong {
            column: column_at(bytes, wrong),
            problem: format!("expected UTF-8 text, found the byte 0x{:02x}", bytes[wrong]),
        }
    })?;
    let found = row.split(',').count();
    if found != COLUMNS.len() {
        return Err(Wrong {
            column: 1 + found.min(COLUMNS.len()),
            problem: format!("expected 6 columns ({}), found {found}", COLUMNS.join(", ")),
        });
    }
    let mut cells = row.split(',');
    let [time, kind, order_id, shares, price, direction] =
        COLUMNS.map(|_| cells.next().unwrap_or_default());

    // Columns are checked from left to right, so that the first mistake is the one reported.
    let time_ns = parse_time(time).ok_or_else(|| {
        expected(
            1,
            "seconds after midnight, below 86400, as 34200.004241176",
            time,
        )
    })?;
    let kind = match kind {
        "1" => Kind::Submission,
        "2" => Kind::Cancellation,
        "3" => Kind::Deletion,
        "4" => Kind::ExecutionVisible,
        "5" => Kind::ExecutionHidden,
        "6" => Kind::Cross,
        "7" => Kind::Halt,
        _ => return Err(expected(2, "a number from 1 to 7", kind)),
    };
    if matches!(kind, Kind::Cross | Kind::Halt) {
        // No resting order stands behind these rows: -1 and 0 fill the columns that do not apply.
        return Ok(Message {
            time_ns,
            kind,
            order_id: number_or_none(3, order_id)?,
            shares: number_or_none(4, shares)?,
            price: number(5, "a price in dollars x 10,000, 0 or -1", price, -1)?,
            side: match direction {
                "1" => Side::Buy,
                "0" | "-1" => Side::Sell,
                _ => return Err(expected(6, "1, 0 or -1", direction)),
            },
        });
    }
    Ok(Message {
        time_ns,
        kind,
        order_id: number(3, "an order id of at least 0", order_id, 0)?,
        shares: number(4, "a number of shares from 1 to 4294967295", shares, 1)?,
        price: number(5, "a price in dollars x 10,000 of at least 1", price, 1)?,
        side: match direction {
            "1" => Side::Buy,
            "-1" => Side::Sell,
            _ => return Err(expected(6, "1 (buy) or -1 (sell)", direction)),
        },
    })
}

/// The column, from 1, that the byte at `index` belongs to.
fn column_at(bytes: &[u8], index: usize) -> usize {
    1 + bytes[..index].iter().filter(|&&byte| byte == b',').count()
}

/// Seconds with decimals, as nanoseconds; exact, which a float would not be.
///
/// Nine decimals are what the files promise, but a few times in them carry the noise of a float
/// behind the ninth: it is cut off.
fn parse_time(cell: &str) -> Option<u64> {
    let (seconds, decimals) = cell.split_once('.').unwrap_or((cell, "0"));
    let mut digits = seconds.bytes().chain(decimals.bytes());
    if decimals.is_empty() || !digits.all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let nanos = (decimals.bytes().chain(repeat(b'0')).take(9))
        .fold(0, |nanos, digit| 10 * nanos + u64::from(digit - b'0'));
    (seconds < SECONDS_PER_DAY).then_some(seconds * NANOS_PER_SECOND + nanos)
}

/// A number in a column that may not apply: -1 is read as 0.
fn number_or_none<T: FromStr + PartialOrd + Default>(
    column: usize,
    cell: &str,
) -> Result<T, Wrong> {
    if cell == "-1" {
        return Ok(T::default());
    }
    number(column, "a number, 0 or -1", cell, T::default())
}

fn number<T: FromStr + PartialOrd>(
    column: usize,
    what: &str,
    cell: &str,
    least: T,
) -> Result<T, Wrong> {
    match cell.parse() {
        Ok(value) if value >= least => Ok(value),
        _ => Err(expected(column, what, cell)),
    }
}

/// A wrong cell: names the column and quotes the start of what stands there.
fn expected(column: usize, what: &str, cell: &str) -> Wrong {
    const QUOTED: usize = 40;
    let name = COLUMNS[column - 1];
    let mut start: String = cell.chars().take(QUOTED).collect();
    if start.len() < cell.len() {
        start.push_str("...");
    }
    Wrong {
        column,
        problem: format!("{name}: expected {what}, found {start:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Message>, Mistake> {
        parse(text.as_bytes()).map(|input| input.messages)
    }

    fn cell_of(text: &[u8]) -> (u64, usize, String) {
        match parse(text) {
            Err(Mistake::Cell { line, wrong }) => (line, wrong.column, wrong.problem),
            other => panic!("expected a wrong cell, got {other:?}"),
        }
    }

    #[test]
    fn times_are_exact_nanoseconds() {
        assert_eq!(parse_time("34200.004241176"), Some(34_200_004_241_176));
        assert_eq!(parse_time("34200.1"), Some(34_200_100_000_000));
        assert_eq!(parse_time("35821.088778456004"), Some(35_821_088_778_456));
        assert_eq!(parse_time("0"), Some(0));
        assert_eq!(parse_time("86399.999999999"), Some(86_399_999_999_999));
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1.+5",
            "1e3",
            "86400",
            "1.2.3",
            " 1",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_row_becomes_a_message() {
        let messages = parse_text("34200.5,4,42,18,5853300,-1\n").unwrap();
        assert_eq!(
            messages,
            [Message {
                time_ns: 34_200_500_000_000,
                order_id: 42,
                price: 5_853_300,
                shares: 18,
                kind: Kind::ExecutionVisible,
                side: Side::Sell,
            }]
        );
    }

    #[test]
    fn crosses_and_halts_may_leave_columns_empty() {
        let messages = parse_text("1,6,-1,100,5853300,-1\n2,7,0,0,-1,-1\n3,7,-1,-1,1,0\n").unwrap();
        assert_eq!(messages[0].shares, 100);
        assert_eq!(messages[0].order_id, 0);
        assert_eq!(messages[1].price, -1);
        assert_eq!(messages[2].price, 1);
        assert_eq!(messages[2].shares, 0);
    }

    #[test]
    fn line_ends_of_every_kind_and_blank_lines_do_not_shift_line_numbers() {
        let good = "1,1,1,1,1,1";
        let (line, column, _) = cell_of(format!("{good}\r\n\r\n\n{good}\n{good}\r\nx").as_bytes());
        assert_eq!((line, column), (6, 2));
        assert_eq!(parse_text(&format!("{good}\n{good}")).unwrap().len(), 2);
    }

    #[test]
    fn the_first_wrong_column_is_named() {
        for (row, column) in [
            ("x,1,1,1,1,1", 1),
            ("1,8,1,1,1,1", 2),
            ("1,1,-1,1,1,1", 3),
            ("1,1,99999999999999999999,1,1,1", 3),
            ("1,1,1,0,1,1", 4),
            ("1,1,1,4294967296,1,1", 4),
            ("1,1,1,1,0,1", 5),
            ("1,1,1,1,1.5,1", 5),
            ("1,1,1,1,9223372036854775808,1", 5),
            ("1,1,1,1,1,0", 6),
            ("1,1,1,1,1,2", 6),
            ("1,7,1,1,1,2", 6),
            ("1,6,-2,1,1,1", 3),
            ("1,6,1,1,-2,1", 5),
            ("1,1,1,1,1", 6),
            ("1,1,1,1,1,1,", 7),
        ] {
            let (line, found, problem) = cell_of(row.as_bytes());
            assert_eq!((line, found), (1, column), "{row}");
            assert!(problem.contains("expected"), "{problem}");
        }
    }

    #[test]
    fn the_last_row_whose_time_is_before_that_of_the_row_before_is_known() {
        let row = |time: u64| format!("{time},1,1,1,1,1\n");
        let input = [5, 3, 4, 4, 9, 2, 3].map(row).concat();
        let input = parse(format!("\n{input}").as_bytes()).unwrap();
        let last = TimeBack {
            line: 7,
            from_ns: 9 * NANOS_PER_SECOND,
            to_ns: 2 * NANOS_PER_SECOND,
        };
        assert_eq!((input.times_back, input.last_back), (2, Some(last)));
    }

    #[test]
    fn a_file_without_rows_is_empty() {
        for text in ["", "\n", "\r\n\n", "\u{feff}", "\u{feff}\n"] {
            assert!(matches!(parse_text(text), Err(Mistake::Empty)), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_in_their_column() {
        let (line, column, problem) = cell_of(b"1,1,1,1,1,1\n1,1,\xff,1,1,1\n");
        assert_eq!((line, column), (2, 3));
        assert!(problem.contains("0xff"), "{problem}");
    }

    #[test]
    fn a_long_last_line_needs_no_end() {
        let zeros = "0".repeat(900);
        assert!(parse_text(&format!("{zeros}1,1,1,1,1,1")).is_ok());
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (line, column, _) = cell_of(&b"1,".repeat(LONGEST_LINE as usize));
        assert_eq!((line, column), (1, 1 + LONGEST_LINE as usize / 2));
    }
}
