//! NVML's functions, those that the agent's probe needs, with the names and the layouts of
//! NVIDIA's `nvml.h`.
//!
//! Pointers are written to as the header says that callers provide them. A handle is a number in
//! the shape of a pointer, never one to memory: the GPU's place from 1, times 256, plus its slice's
//! place from 1.
#![expect(unsafe_code, reason = "a C library is what this is: names and pointers of another's")]

use std::ffi::{CStr, c_char, c_uint, c_ulonglong, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::world::{Allocation, Device, State, World};

type Return = c_uint;
type Handle = *mut c_void;

const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;
const GPU_IS_LOST: Return = 15;
const UNKNOWN: Return = 999;

const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
const NO_INSTANCE: c_uint = c_uint::MAX;
/// Slices that a GPU may have.
const SLICES_MAX: c_uint = 7;

/// Inits without their shutdown. Only the first one opens the driver, as NVIDIA's does.
static USERS: AtomicUsize = AtomicUsize::new(0);
/// Between that and the first failure of the driver.
static USABLE: AtomicBool = AtomicBool::new(false);

#[repr(C)]
pub(crate) struct PciInfo {
    legacy_bus_id: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

#[repr(C)]
pub(crate) struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[repr(C)]
pub(crate) struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
pub(crate) struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Return {
    if USERS.load(Ordering::Relaxed) == 0 {
        match world().state() {
            Ok(State { error: None, .. }) => USABLE.store(true, Ordering::Relaxed),
            _ => return DRIVER_NOT_LOADED,
        }
    }
    USERS.fetch_add(1, Ordering::Relaxed);
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Return {
    match USERS.load(Ordering::Relaxed) {
        0 => UNINITIALIZED,
        users => {
            USERS.store(users - 1, Ordering::Relaxed);
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    let text: &'static CStr = match result {
        SUCCESS => c"Success",
        GPU_IS_LOST => c"GPU is lost",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, len: c_uint) -> Return {
    answer(|state| unsafe { put_text(&state.driver, text, len) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    answer(|state| unsafe { put(count, as_uint(state.gpus.len())) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut Handle) -> Return {
    answer(|state| {
        let device = state.gpu(index as usize).ok_or(INVALID_ARGUMENT)?;
        reachable(&device)?;
        unsafe { put(handle, handle_of(device.gpu, None)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, handle: *mut Handle) -> Return {
    if uuid.is_null() {
        return INVALID_ARGUMENT;
    }
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
    answer(|state| {
        let device = state.device(&uuid).ok_or(NOT_FOUND)?;
        reachable(&device)?;
        let slices = state.gpus[device.gpu].mig.iter().flatten();
        let slice = slices.zip(0..).find(|(slice, _)| slice.uuid == uuid).map(|(_, at)| at);
        unsafe { put(handle, handle_of(device.gpu, slice)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, text: *mut c_char, len: c_uint) -> Return {
    of(device, |_, device| unsafe { put_text(device.uuid, text, len) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device: Handle, text: *mut c_char, len: c_uint) -> Return {
    of(device, |_, device| unsafe { put_text(device.name, text, len) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, info: *mut PciInfo) -> Return {
    of(device, |state, at| {
        let (domain, bus, slot) = state.pci(at.gpu);
        let mut answer = PciInfo {
            legacy_bus_id: [0; 16],
            domain,
            bus,
            device: slot,
            device_id: 0,
            subsystem_id: 0,
            bus_id: [0; 32],
        };
        let text = format!("{domain:08X}:{bus:02X}:{slot:02X}.0");
        for (to, from) in answer.bus_id.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        unsafe { put(info, answer) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, minor: *mut c_uint) -> Return {
    whole(device, |_, at| unsafe { put(minor, as_uint(at.gpu)) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut MemoryV2) -> Return {
    of(device, |_, device| {
        let used = device.used_mib(&world().allocations());
        let free = device.memory_mib.saturating_sub(device.reserved_mib + used);
        let answer = MemoryV2 {
            version: 0,
            total: device.memory_mib << 20,
            reserved: device.reserved_mib << 20,
            free: free << 20,
            used: used << 20,
        };
        unsafe { put(memory, answer) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, to: *mut Utilization) -> Return {
    whole(device, |state, at| {
        let busy = || if world().rendering(at.uuid) > 0 { 100 } else { 0 };
        let gpu = state.gpus[at.gpu].utilisation_percent.unwrap_or_else(busy);
        unsafe { put(to, Utilization { gpu, memory: 0 }) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    _sensor: c_uint,
    celsius: *mut c_uint,
) -> Return {
    whole(device, |state, at| {
        let temperature = state.gpus[at.gpu].temperature_c.ok_or(NOT_SUPPORTED)?;
        unsafe { put(celsius, temperature) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, milliwatts: *mut c_uint) -> Return {
    whole(device, |state, at| {
        let watts = state.gpus[at.gpu].power_w.ok_or(NOT_SUPPORTED)?;
        unsafe { put(milliwatts, watts * 1000) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    processes: *mut ProcessInfo,
) -> Return {
    of(device, |_, device| {
        let others = device.processes.iter().filter(|process| !process.graphics);
        let ours = world().allocations();
        let ours = ours.iter().filter(|own| own.uuid == device.uuid);
        let all: Vec<ProcessInfo> = others
            .map(|process| process_info(process.pid, process.mib))
            .chain(ours.map(|Allocation { pid, mib, .. }| process_info(*pid, Some(*mib))))
            .collect();
        unsafe { put_all(all, count, processes) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    processes: *mut ProcessInfo,
) -> Return {
    of(device, |_, device| {
        let drawing = device.processes.iter().filter(|process| process.graphics);
        let all = drawing.map(|process| process_info(process.pid, process.mib)).collect();
        unsafe { put_all(all, count, processes) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    whole(device, |state, at| {
        let on = c_uint::from(state.gpus[at.gpu].mig.is_some());
        unsafe { put(current, on).and_then(|()| put(pending, on)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> Return {
    whole(device, |state, at| {
        let max = if state.gpus[at.gpu].mig.is_some() { SLICES_MAX } else { 0 };
        unsafe { put(count, max) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    handle: *mut Handle,
) -> Return {
    whole(device, |state, at| {
        state.slice(at.gpu, index as usize).ok_or(NOT_FOUND)?;
        unsafe { put(handle, handle_of(at.gpu, Some(index as usize))) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Handle, is: *mut c_uint) -> Return {
    of(device, |_, _| unsafe { put(is, c_uint::from(places(device).1.is_some())) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    slice: Handle,
    handle: *mut Handle,
) -> Return {
    of(slice, |_, at| unsafe { put(handle, handle_of(at.gpu, None)) })
}

/// The state, unless the driver is broken or has been since the library was opened.
fn answer(question: impl FnOnce(&State) -> Result<(), Return>) -> Return {
    if USERS.load(Ordering::Relaxed) == 0 || !USABLE.load(Ordering::Relaxed) {
        return UNINITIALIZED;
    }
    match world().state() {
        Ok(state @ State { error: None, .. }) => question(&state).err().unwrap_or(SUCCESS),
        _ => {
            USABLE.store(false, Ordering::Relaxed);
            UNKNOWN
        }
    }
}

/// A question about a GPU or a slice.
fn of(handle: Handle, question: impl FnOnce(&State, Device<'_>) -> Result<(), Return>) -> Return {
    answer(|state| {
        let device = match places(handle) {
            (Some(gpu), None) => state.gpu(gpu),
            (Some(gpu), Some(slice)) => state.slice(gpu, slice),
            (None, _) => None,
        };
        let device = device.ok_or(INVALID_ARGUMENT)?;
        reachable(&device)?;
        question(state, device)
    })
}

/// A question that slices do not answer.
fn whole(
    handle: Handle,
    question: impl FnOnce(&State, Device<'_>) -> Result<(), Return>,
) -> Return {
    if places(handle).1.is_some() { NOT_SUPPORTED } else { of(handle, question) }
}

fn reachable(device: &Device<'_>) -> Result<(), Return> {
    if device.lost { Err(GPU_IS_LOST) } else { Ok(()) }
}

fn handle_of(gpu: usize, slice: Option<usize>) -> Handle {
    let number = (gpu + 1) * 256 + slice.map_or(0, |slice| slice + 1);
    std::ptr::without_provenance_mut(number)
}

fn places(handle: Handle) -> (Option<usize>, Option<usize>) {
    let number = handle.addr();
    ((number / 256).checked_sub(1), (number % 256).checked_sub(1))
}

fn process_info(pid: u32, mib: Option<u64>) -> ProcessInfo {
    ProcessInfo {
        pid,
        used: mib.map_or(NOT_AVAILABLE, |mib| mib << 20),
        gpu_instance: NO_INSTANCE,
        compute_instance: NO_INSTANCE,
    }
}

fn as_uint(number: usize) -> c_uint {
    c_uint::try_from(number).unwrap_or(c_uint::MAX)
}

/// # Safety
/// `to` is null, or can be written to.
unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Return> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    unsafe { to.write(value) };
    Ok(())
}

/// # Safety
/// `to` is null, or has room for `len` bytes.
unsafe fn put_text(text: &str, to: *mut c_char, len: c_uint) -> Result<(), Return> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= len as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    let bytes = text.as_bytes();
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, bytes.len());
        to.add(bytes.len()).write(0);
    }
    Ok(())
}

/// # Safety
/// `count` is null or holds the number of elements that `to`, unless it is null, has room for.
unsafe fn put_all<T>(all: Vec<T>, count: *mut c_uint, to: *mut T) -> Result<(), Return> {
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let room = unsafe { count.read() } as usize;
    unsafe { count.write(as_uint(all.len())) };
    if all.is_empty() {
        return Ok(());
    }
    if to.is_null() || room < all.len() {
        return Err(INSUFFICIENT_SIZE);
    }
    for (at, value) in all.into_iter().enumerate() {
        unsafe { to.add(at).write(value) };
    }
    Ok(())
}

/// The world beside this very library, or the environment's.
fn world() -> World {
    let beside = own_path().and_then(|path| Some(World::at(Path::new(&path).parent()?)));
    let beside = beside.filter(World::exists);
    beside.or_else(World::of_environment).unwrap_or_else(|| World::at(Path::new(".")))
}

/// Where the loader found this library.
fn own_path() -> Option<String> {
    let own: extern "C" fn() -> Return = nvmlInit_v2;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr fills the structure when it does not return 0, with a name that lives as long
    // as the library, which is running.
    unsafe {
        if libc::dladdr(own as *const c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}
