/* Hides features of this machine's x86 processor from the program that it is preloaded into, so that libraries choose
 * the kernels that they have for lesser ones, and run them at full speed: an emulator with AVX-512 there is none.
 *
 *   cc -O1 -shared -fPIC -o hide_cpuid.so hide_cpuid.c
 *   HIDE_CPUID=vnni LD_PRELOAD=./hide_cpuid.so PROGRAM      VNNI, AMX and float16; HIDE_CPUID=avx512: AVX-512 too
 *
 * Linux lets a process ask that the CPUID instruction faults (arch_prctl(2), ARCH_CPUID), where the processor can do that.
 * Threads and forks inherit it, and exec preloads again. Status 97 says that it cannot be done here. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7 of CPUID, subleaves 0 and 1; Intel's Software Developer's Manual, volume 2A. */
static const struct features {
  uint32_t eax1, ebx0, ecx0, edx0, edx1;
} VNNI = {
    .ecx0 = BIT(11),                                /* AVX512_VNNI */
    .edx0 = BIT(22) | BIT(23) | BIT(24) | BIT(25),  /* AMX_BF16, AVX512_FP16, AMX_TILE, AMX_INT8 */
    .eax1 = BIT(4) | BIT(5) | BIT(21),              /* AVX_VNNI, AVX512_BF16, AMX_FP16 */
    .edx1 = BIT(4) | BIT(10),                       /* AVX_VNNI_INT8, AVX_VNNI_INT16 */
}, AVX512 = {
    .ebx0 = BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31), /* F, DQ, IFMA, CD, BW, VL */
    .ecx0 = BIT(1) | BIT(6) | BIT(12) | BIT(14),                       /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
    .edx0 = BIT(8),                                                    /* VP2INTERSECT */
};
static int hides_avx512;

static long cpuid_works(unsigned long works) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, works); }

static void on_fault(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
  if (info->si_code != SI_KERNEL || instruction[0] != 0x0f || instruction[1] != 0xa2) {
    signal(number, SIG_DFL); /* a fault of the program's own: it comes again */
    return;
  }
  uint32_t leaf = registers[REG_RAX], subleaf = registers[REG_RCX], eax, ebx, ecx, edx;
  cpuid_works(1);
  __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf), "c"(subleaf));
  cpuid_works(0);
  if (leaf == 7 && subleaf == 0) {
    ebx &= ~(VNNI.ebx0 | (hides_avx512 ? AVX512.ebx0 : 0));
    ecx &= ~(VNNI.ecx0 | (hides_avx512 ? AVX512.ecx0 : 0));
    edx &= ~(VNNI.edx0 | (hides_avx512 ? AVX512.edx0 : 0));
  } else if (leaf == 7 && subleaf == 1) {
    eax &= ~VNNI.eax1;
    edx &= ~VNNI.edx1;
  }
  registers[REG_RAX] = eax;
  registers[REG_RBX] = ebx;
  registers[REG_RCX] = ecx;
  registers[REG_RDX] = edx;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
  const char *hidden = getenv("HIDE_CPUID");
  hides_avx512 = hidden && strcmp(hidden, "avx512") == 0;
  if (!hides_avx512 && (!hidden || strcmp(hidden, "vnni") != 0)) _exit(97);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (sigaction(SIGSEGV, &action, NULL) != 0 || cpuid_works(0) != 0) _exit(97);
}
