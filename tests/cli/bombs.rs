//! Small files that become large, and devices without end: refused soon, in one line, and in little memory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};

use super::{folder, has_adapter, program};

const LONGEST: Duration = Duration::from_secs(2);
/// Of resident memory, in KiB.
const MOST_MEMORY: u64 = 300_000;
/// Zeros that are packed at once; all others are their copies.
const PART: usize = 64 << 20;

/// That many parts of zeros by deflate, without a head or a checksum.
fn deflated(parts: usize) -> Vec<u8> {
    let zeros = vec![0; PART];
    let mut packer = Compress::new(Compression::best(), false);
    let mut part = || {
        let mut packed = Vec::with_capacity(1 << 20);
        packer.compress_vec(&zeros, &mut packed, FlushCompress::Full).expect("memory");
        packed
    };
    let (first, other) = (part(), part());
    [first, other.repeat(parts - 1), vec![3, 0]].concat()
}

/// What `head -c 5G /dev/zero | gzip` gives.
fn gzip() -> Vec<u8> {
    const PARTS: usize = 80;
    let mut part = crc32fast::Hasher::new();
    part.update(&vec![0; PART]);
    let mut checksum = crc32fast::Hasher::new();
    (0..PARTS).for_each(|_| checksum.combine(&part));
    let length = (PARTS * PART) as u32;
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [&head[..], &deflated(PARTS), &checksum.finalize().to_le_bytes(), &length.to_le_bytes()].concat()
}

/// A PNG of one pixel with a chunk of that kind in which 4 GiB are packed.
fn png(kind: [u8; 4], start: &[u8]) -> Vec<u8> {
    const PARTS: usize = 64;
    let sum = ((PARTS * PART % 65_521) as u32) << 16 | 1;
    let zlib = [&[0x78, 0xda][..], &deflated(PARTS), &sum.to_be_bytes()].concat();
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let named = [&kind[..], data].concat();
        [&(data.len() as u32).to_be_bytes(), &named[..], &crc32fast::hash(&named).to_be_bytes()].concat()
    };
    let pixel = [0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1];
    let parts = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]),
        chunk(&kind, &[start, &zlib].concat()),
        chunk(b"IDAT", &pixel),
        chunk(b"IEND", &[]),
    ];
    parts.concat()
}

/// Runs `arcsm`, and holds its end, its words, its time and its memory against what is allowed.
fn holds(here: &Path, words: &str) {
    let mut command = program("arcsm");
    command.current_dir(here).args(words.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().expect("the executable starts");
    let Some((status, memory)) = end_of(&mut child, start) else { panic!("{words} goes on after {LONGEST:?}") };
    println!("{:6.2} s {:6} MB  {words}", start.elapsed().as_secs_f64(), memory / 1000);
    let mut text = String::new();
    child.stderr.take().expect("it is a pipe").read_to_string(&mut text).expect("UTF-8");
    assert_eq!(status.code(), Some(2), "{words}: {text}");
    let errors = text.lines().filter(|line| line.starts_with("error: "));
    let is_last = text.lines().last().is_some_and(|line| line.starts_with("error: "));
    assert!(errors.count() == 1 && is_last, "{words}: {text}");
    assert!(memory <= MOST_MEMORY, "{words} took {memory} KiB");
}

/// How a process ends and the most memory that it had, in KiB; none when it takes too long, and is ended.
fn end_of(child: &mut std::process::Child, start: Instant) -> Option<(std::process::ExitStatus, u64)> {
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some((status, most));
        }
        if start.elapsed() > LONGEST {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            return None;
        }
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn bombs_are_refused_soon_and_in_little_memory() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    fs::write(here.path().join("zeros.gz"), gzip()).expect("written");
    fs::write(here.path().join("config.toml"), "").expect("written");
    for kind in ["idx", "npy", "npz", "csv"] {
        holds(here.path(), &format!("train --data {kind}:zeros.gz --out run"));
        holds(here.path(), &format!("train --data {kind}:/dev/zero --out run"));
    }
    for words in [
        "sample --checkpoint zeros.gz --count 1 --out x.png",
        "import --config config.toml --weights zeros.gz --shape 3 --out x.safetensors",
        "train --config zeros.gz --data digits --out run",
    ] {
        holds(here.path(), words);
    }
    for (name, kind, start) in
        [("text", *b"zTXt", &b"k\0\0"[..]), ("world", *b"iTXt", b"k\0\x01\0\0\0"), ("profile", *b"iCCP", b"k\0\0")]
    {
        fs::create_dir(here.path().join(name)).expect("made");
        fs::write(here.path().join(name).join("a.png"), png(kind, start)).expect("written");
        holds(here.path(), &format!("train --data images:{name} --size 8 --out run"));
    }
    assert!(!here.path().join("run").exists(), "nothing was begun");
}

#[test]
fn hostile_files_of_others_are_refused_soon_and_in_little_memory() {
    let root = std::env::var_os("ARCSM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let trials = root.join("trials/hostile");
    if !trials.exists() {
        assert!(std::env::var_os("ARCSM_REQUIRE_SHARED").is_none_or(|v| v != "1"), "{} is missing", trials.display());
        println!("SKIPPED: {} is missing", trials.display());
        return;
    }
    if !has_adapter() {
        return;
    }
    let here = folder();
    let mut seen = 0;
    for entry in fs::read_dir(trials).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned());
        let words = match ending.as_deref() {
            Some("safetensors") => format!("sample --checkpoint {} --count 1 --out x.png", path.display()),
            Some("npy") => format!("train --data npy:{} --out run", path.display()),
            Some("png" | "bin") => {
                fs::create_dir(here.path().join(&name)).expect("made");
                fs::copy(&path, here.path().join(&name).join("a.png")).expect("copied");
                format!("train --data images:{name} --size 8 --out run")
            }
            _ => continue,
        };
        // Two are whole, or but for a flipped bit that no old file's checksum tells: they are drawn from.
        if name.ends_with("-ok") || name.ends_with("-flip") {
            continue;
        }
        holds(here.path(), &words);
        seen += 1;
    }
    assert!(seen > 0);
}
