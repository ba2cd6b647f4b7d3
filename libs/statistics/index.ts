export { type ArmRanges, armAt, type BucketRange, bucketOf, BUCKETS, extendRanges, fnv1a32 } from "./assignment.ts";
export { chiSquareTail, sampleRatioP, SRM_P } from "./chi-square.ts";
export { addMoments, addSample, emptyMoments, type Moments, variance } from "./moments.ts";
export { confidenceSequence, type Interval, oneSidedSequence, SAMPLES_MIN, TUNED_FOR } from "./sequence.ts";
