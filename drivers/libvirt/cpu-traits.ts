/** Placement traits of a CPU, from libvirt's names of its features (nova/virt/libvirt/utils.py, CPU_TRAITS_MAPPING). */
const TRAITS: Readonly<Record<string, readonly string[]>> = {
  '3dnow': ['3DNOW'],
  abm: ['ABM'],
  aes: ['AESNI'],
  'amx-bf16': ['AMXBF16'],
  'amx-int8': ['AMXINT8'],
  'amx-tile': ['AMXTILE'],
  avx: ['AVX'],
  avx2: ['AVX2'],
  avx512bw: ['AVX512BW'],
  avx512cd: ['AVX512CD'],
  avx512dq: ['AVX512DQ'],
  avx512er: ['AVX512ER'],
  avx512f: ['AVX512F'],
  avx512pf: ['AVX512PF'],
  avx512vl: ['AVX512VL'],
  avx512vnni: ['AVX512VNNI'],
  avx512vbmi: ['AVX512VBMI'],
  avx512ifma: ['AVX512IFMA'],
  avx512vbmi2: ['AVX512VBMI2'],
  avx512bitalg: ['AVX512BITALG'],
  vaes: ['AVX512VAES'],
  gfni: ['AVX512GFNI'],
  vpclmulqdq: ['AVX512VPCLMULQDQ'],
  'avx512-vpopcntdq': ['AVX512VPOPCNTDQ'],
  bmi1: ['BMI'],
  bmi2: ['BMI2'],
  pclmuldq: ['CLMUL'],
  f16c: ['F16C'],
  fma: ['FMA3'],
  fma4: ['FMA4'],
  mmx: ['MMX'],
  mpx: ['MPX'],
  'sha-ni': ['SHA'],
  sse: ['SSE'],
  sse2: ['SSE2'],
  sse3: ['SSE3'],
  'sse4.1': ['SSE41'],
  'sse4.2': ['SSE42'],
  sse4a: ['SSE4A'],
  ssse3: ['SSSE3'],
  svm: ['SVM', 'AMD_SVM'],
  tbm: ['TBM'],
  vmx: ['VMX', 'INTEL_VMX'],
  xop: ['XOP'],
};

/** `HW_CPU_X86_*` of the features that have a trait, sorted. */
export function cpuTraits(features: Iterable<string>): string[] {
  const traits = new Set<string>();
  for (const feature of features) {
    for (const name of Object.hasOwn(TRAITS, feature) ? (TRAITS[feature] ?? []) : []) {
      traits.add(`HW_CPU_X86_${name}`);
    }
  }
  return [...traits].sort();
}
