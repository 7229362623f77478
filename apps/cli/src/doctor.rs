//! `microtome doctor`: what was found, and what each absence costs.

use microtome::system;

/// A page of findings.
pub(crate) fn findings() -> String {
    let (path, available) = system::vector_paths();
    let memory = system::machine_memory_bytes()
        .map_or("unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let mut page = format!("microtome {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |what: &str, found: &str, cost: &str| {
        page.push_str(&format!("{what:<20} {found}\n"));
        if !cost.is_empty() {
            page.push_str(&format!("{:<20}   {cost}\n", ""));
        }
    };
    line("cores", &system::threads().to_string(), "");
    line("memory", &memory, "");
    let slower = match path {
        "avx512" | "neon" => "",
        "avx2" => "without AVX-512, networks run about half as fast",
        _ => "without AVX2, networks run several times slower",
    };
    line("vector instructions", &format!("{path} (this processor has: {})", available.join(", ")), slower);
    line("GPU", "not used", "this version computes on the processor; nothing is lost but time");
    match system::openslide() {
        Some(library) => line("OpenSlide", &format!("found: {library}"), ""),
        None => line(
            "OpenSlide",
            "not found",
            "slides of MIRAX, Hamamatsu, Leica, Ventana, Zeiss, Sakura are not read; all others are",
        ),
    }
    optional(&mut line, "ONNX runtime", &ONNX_RUNTIME, "no command of this version needs it");
    page
}

const ONNX_RUNTIME: [&str; 4] =
    ["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.dylib", "onnxruntime.dll"];

fn optional(line: &mut impl FnMut(&str, &str, &str), what: &str, names: &[&str], cost: &str) {
    // Looked for by name beside the system's libraries; never loaded, which would run its code.
    match names.iter().find_map(|name| find_library(name)) {
        Some(path) => line(what, &format!("found: {path}"), ""),
        None => line(what, "not found", cost),
    }
}

fn find_library(name: &str) -> Option<String> {
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ];
    let folders = std::env::split_paths(&listed).chain(usual.iter().map(std::path::PathBuf::from));
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_file()).map(|file| file.display().to_string())
}
