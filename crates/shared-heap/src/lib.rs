//! One heap for all threads of a process.
//!
//! glibc gives threads heaps of their own, up to eight per core, and memory that one thread frees serves only allocations
//! from the same heap. The worker's stages hand what they have allocated to each other, so each heap would grow to the
//! most that was ever allocated from it: 181 to 210 MB with a full backlog, where one heap takes 143 to 147, at the same
//! speed.
//!
//! What is larger than a megabyte stands outside the heap, and goes back to the system as soon as it is freed. Left to
//! itself, glibc takes such pieces into the heap once one of them was freed, where they leave holes: 162 to 165 MB with
//! a full backlog where it is 150 to 159 like this, at the same speed.

/// Bytes of what stands outside the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Makes all threads allocate from one heap from now on, and what is large outside it; to be called before there are other
/// threads. Elsewhere than with glibc nothing happens.
pub fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(
        unsafe_code,
        reason = "mallopt takes two integers, touches nothing of ours, and is called before other threads exist"
    )]
    // SAFETY: these are values that glibc documents. When it refuses them, it answers 0 and goes on as before.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
