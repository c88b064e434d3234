//! What this machine can hold: sizes are held against it before anything is allocated.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use sysinfo::System;

use crate::error::{Error, Result};

/// Bytes of a disk that are never filled.
pub(crate) const LEFT_FREE: u64 = 1 << 30;
/// Share of the free memory that one thing may take.
const SHARE: f64 = 0.8;

/// Bytes of memory that were free when this was first asked, within the limits of the process's control group.
pub fn free_memory() -> u64 {
    static FREE: OnceLock<u64> = OnceLock::new();
    *FREE.get_or_init(|| {
        let Ok(mut system) = System::new() else { return u64::MAX };
        system.refresh_memory();
        let of_group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
        // A system that tells nothing is not held to be full.
        match system.available_memory().min(of_group) {
            0 => u64::MAX,
            free => free,
        }
    })
}

/// Refuses what would not fit: `numbers` of so many bytes each, as a product, so that none overflows.
///
/// # Errors
/// Bad input, with the bytes that `what` takes and those that are free.
pub fn check_fits(subject: &str, what: &str, bytes: u64, numbers: &[usize], remedy: &str) -> Result<()> {
    let wanted = numbers.iter().fold(bytes, |product, &number| product.saturating_mul(number as u64));
    let free = free_memory();
    if wanted as f64 <= SHARE * free as f64 {
        return Ok(());
    }
    let problem = format!("{what} would take {}, {} of memory are free", HumanBytes(wanted), HumanBytes(free));
    Err(Error::input(subject, problem, remedy))
}

/// Refuses a file of so many bytes, as a product, where it would leave too little of its disk free.
///
/// # Errors
/// Bad input, with the bytes that it takes and those that are free.
pub fn check_disk(path: &Path, bytes: u64, numbers: &[usize]) -> Result<()> {
    let wanted = numbers.iter().fold(bytes, |product, &number| product.saturating_mul(number as u64));
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match free_space(folder) {
        Some(free) if free < wanted.saturating_add(LEFT_FREE) => {
            let problem = format!("would take {}, {} are free on its disk", HumanBytes(wanted), HumanBytes(free));
            Err(Error::input(path.display().to_string(), problem, "Ask for less, or give a path on another disk"))
        }
        _ => Ok(()),
    }
}

/// Bytes that are free on a folder's disk for whoever asks.
#[cfg(unix)]
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_space(_folder: &Path) -> Option<u64> {
    None
}

/// The day, UTC, as `2026-12-01`.
pub(crate) fn today() -> String {
    utc(SystemTime::now()).chars().take_while(|c| *c != ' ').collect()
}

/// A time as `2026-12-01 08:05:09 UTC`.
pub(crate) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (day, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end; eras of 400 of them are all alike.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month_of_year) = (of_year - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = 400 * era + year + u64::from(month_of_year <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month_of_year:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_bytes_and_nothing_overflows() {
        check_fits("--count", "the samples", 4, &[64, 64], "Ask for fewer").expect("16 KiB");
        for numbers in [&[usize::MAX, 2][..], &[1 << 40, 1 << 20]] {
            let error = check_fits("--count", "the samples", 4, numbers, "Ask for fewer").expect_err("exabytes");
            assert!(error.to_string().contains("EiB") && error.exit_status() == 2, "{error}");
        }
        assert!(free_memory() > 1 << 20);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_would_fill_the_disk_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("not-yet/samples.npy");
        check_disk(&path, 4, &[1000]).expect("4 kB");
        let error = check_disk(&path, 4, &[1 << 40, 1 << 20]).expect_err("exabytes");
        assert!(error.to_string().contains("EiB") && error.exit_status() == 2, "{error}");
        check_disk(Path::new("here.npy"), 4, &[10]).expect("the current folder");
    }

    #[test]
    fn times_are_told_by_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_796_083_509, "2026-12-01 00:05:09 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
