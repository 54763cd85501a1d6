//! Embeds the hash over the kernel's own sources, so that a wheel can be checked against a checkout.
//! The same figure is computed by `source_hash.py`; the definition is there.
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn walk(dir: &Path, suffixes: &[&str], out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, suffixes, out)?;
        } else if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| suffixes.iter().any(|s| n.ends_with(s))) {
            out.push(path);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn source_hash(root: &Path) -> io::Result<String> {
    let mut files: Vec<PathBuf> =
        ["Cargo.toml", "Cargo.lock", "build.rs", "pyproject.toml"].iter().map(|f| root.join(f)).collect();
    walk(&root.join("src"), &[".rs"], &mut files)?;
    walk(&root.join("python"), &[".py", ".pyi", "py.typed"], &mut files)?;
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|p| {
            let rel = p.strip_prefix(root).unwrap_or(&p).to_string_lossy().replace('\\', "/");
            (rel, p)
        })
        .collect();
    named.sort();
    let mut all = Sha256::new();
    for (name, path) in named {
        println!("cargo:rerun-if-changed={}", path.display());
        all.update(name.as_bytes());
        all.update([0u8]);
        all.update(hex(&Sha256::digest(fs::read(path)?)).as_bytes());
        all.update(b"\n");
    }
    Ok(hex(&all.finalize()))
}

/// The version that Cargo.lock pins for a package.
fn locked(lock: &str, name: &str) -> String {
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == format!("name = \"{name}\"") {
            if let Some(v) = lines.next().and_then(|l| l.strip_prefix("version = \"")) {
                return v.trim_end_matches('"').to_string();
            }
        }
    }
    "unknown".to_string()
}

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=python");
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    println!("cargo:rustc-env=ACGS1_KERNEL_SOURCE_SHA256={}", source_hash(&root)?);
    println!("cargo:rustc-env=ACGS1_KERNEL_SYMCC_VERSION={}", locked(&lock, "cedar-policy-symcc"));
    Ok(())
}
