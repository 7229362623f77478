//! What the machine has and what this process took of it.

use microtome_kernels::network::vector::Path;

/// Most memory that this process has held so far, in bytes, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Memory of the machine, in bytes, where the system tells (Linux).
pub fn machine_memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Threads that work is spread over.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Vector instructions that the kernels use, and those that this processor has, widest first.
pub fn vector_paths() -> (&'static str, Vec<&'static str>) {
    (Path::best().name(), Path::available().into_iter().map(Path::name).collect())
}

/// Where OpenSlide's library is, if this machine has it. It is loaded to find out.
pub fn openslide() -> Option<String> {
    microtome_slide::slide::openslide_location()
}

/// Where ONNX Runtime's library is, if this machine has it. It is loaded to find out.
///
/// # Errors
/// `Usage` when it is not found.
pub fn onnx_runtime() -> microtome_vault::Result<String> {
    microtome_nets::onnx::library()
}

/// Spreads work over so many threads. To be called once, before any work.
///
/// # Errors
/// `Usage` when work has begun already.
pub fn use_threads(threads: usize) -> microtome_vault::Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| microtome_vault::Error::usage(format!("{threads} threads cannot be made ({error})")))
}
