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
    match system::onnx_runtime() {
        Ok(library) => line("ONNX Runtime", &format!("found: {library}"), ""),
        Err(_) => line(
            "ONNX Runtime",
            "not found",
            "encoders in ONNX files cannot be used; `pip install onnxruntime` and MICROTOME_ONNXRUNTIME bring them",
        ),
    }
    page
}
