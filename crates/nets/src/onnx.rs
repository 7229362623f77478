//! Networks as ONNX files, run by ONNX Runtime: its library is looked for when the first one is opened, and nothing else needs it.

use microtome_vault::{Error, Result};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

/// Names the library's file, where it is not found by itself.
const VARIABLE: &str = "MICROTOME_ONNXRUNTIME";
/// What the library is called where it is installed.
const NAMES: [&str; 4] =
    ["libonnxruntime.so.1", "libonnxruntime.so", "libonnxruntime.dylib", "onnxruntime.dll"];

/// A network with one input, pictures `[pictures, …]`, whose first output (or a named one) is looked at.
pub struct OnnxNetwork {
    session: Mutex<Session>,
    input: String,
    output: String,
}

/// Numbers with their extents.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Extent along each axis.
    pub shape: Vec<usize>,
    /// The last axis runs fastest.
    pub values: Vec<f32>,
}

/// The library, once it is found; it can be loaded once in a process.
fn environment() -> Result<&'static (Environment, PathBuf)> {
    static ENVIRONMENT: OnceLock<std::result::Result<(Environment, PathBuf), String>> = OnceLock::new();
    let found = ENVIRONMENT.get_or_init(|| {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let places = named.map_or_else(|| NAMES.iter().map(PathBuf::from).collect(), |path| vec![path]);
        let mut first = None;
        for place in places {
            match ort::init_from(&place) {
                Ok(builder) => {
                    let built = builder.build().map_err(|error| error.to_string());
                    return built.map(|environment| (environment, place));
                }
                Err(error) => first.get_or_insert(error.to_string()),
            };
        }
        Err(first.unwrap_or_default())
    });
    found.as_ref().map_err(|why| {
        Error::usage(format!("ONNX encoders need the library of ONNX Runtime, which was not found ({why})"))
            .advise(format!(
                "`pip install onnxruntime` brings one; name its file, libonnxruntime.so, in {VARIABLE}"
            ))
    })
}

/// The library's name or place, if it is found.
///
/// # Errors
/// `Usage` when it is not.
pub fn library() -> Result<String> {
    environment().map(|(_, place)| place.display().to_string())
}

impl OnnxNetwork {
    /// Opens the network in the bytes of a file, with the output of this name or the first.
    ///
    /// # Errors
    /// `Usage` when ONNX Runtime is not there; `Input` when the bytes are no network that it reads, or the network has several
    /// inputs, or no such output.
    pub fn open(bytes: &[u8], output: Option<&str>) -> Result<Self> {
        let (environment, _) = environment()?;
        let refused = |why: String| Error::input(format!("not an ONNX network that can be used ({why})"));
        let threads = rayon::current_num_threads();
        let session = Session::builder(environment)
            .and_then(|builder| Ok(builder.with_intra_threads(threads)?))
            .and_then(|mut builder| builder.commit_from_memory(bytes))
            .map_err(|error| refused(error.to_string()))?;
        let names: Vec<String> = session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        let input = match session.inputs() {
            [one] => one.name().to_owned(),
            inputs => return Err(refused(format!("it has {} inputs, where a picture is one", inputs.len()))),
        };
        let wanted = output.map_or_else(|| names.first().cloned(), |name| Some(name.to_owned()));
        match wanted.filter(|name| names.contains(name)) {
            Some(output) => Ok(Self { session: Mutex::new(session), input, output }),
            None => Err(refused(format!("it has no such output; it has {}", names.join(", ")))),
        }
    }

    /// What the network says of pictures of this shape.
    ///
    /// # Errors
    /// `Input` when it does not take them, or its output is not of single-precision floats.
    pub fn run(&self, pictures: &[f32], shape: &[usize]) -> Result<Output> {
        let refused = |error: ort::Error| {
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default().to_owned();
            Error::input(format!("the ONNX network does not take pictures of shape {shape:?} ({first})"))
                .advise("state what it takes in the file beside it: input_px, layout, output")
        };
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let tensor = TensorRef::from_array_view((shape.to_vec(), pictures)).map_err(refused)?;
        let outputs = session.run(ort::inputs![self.input.as_str() => tensor]).map_err(refused)?;
        let value = &outputs[self.output.as_str()];
        let (shape, values) = value.try_extract_tensor::<f32>().map_err(refused)?;
        let shape = shape.iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
        Ok(Output { shape, values: values.to_vec() })
    }
}
