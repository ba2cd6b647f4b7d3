export { type ArmRanges, armAt, type BucketRange, bucketOf, BUCKETS, extendRanges, fnv1a32 } from "./assignment.ts";
export { chiSquareTail, sampleRatioP, SRM_P } from "./chi-square.ts";
export { addMoments, addSample, emptyMoments, type Moments, variance } from "./moments.ts";
export { FIRST_WINDOW_ALPHA, LATER_WINDOWS_ALPHA, type Look, type Looks, noLooks, takeLook } from "./planned-looks.ts";
export { excessScore, normalTail, type Share } from "./proportions.ts";
export { confidenceSequence, exceedsRatio, type Interval, oneSidedSequence, ratioSequence, SAMPLES_MIN, TUNED_FOR } from "./sequence.ts";
